"""The hooks of the quality plugin."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from nexus.api import AdminReply, AdminRoute, ExchangeOutcome, Reconciler, hookimpl
from nexus_quality.config import QualityConfig
from nexus_quality.measurements import Measurements
from nexus_quality.reconciler import QualityReconciler
from nexus_quality.report import quality_page


@hookimpl
def nexus_config() -> type[QualityConfig]:
    return QualityConfig


@hookimpl
def nexus_reconcilers(config: QualityConfig, state: dict[str, Any]) -> list[Reconciler]:
    return [QualityReconciler(config, _measurements(state))]


@hookimpl
def nexus_observers(config: QualityConfig, state: dict[str, Any]) -> list[Callable[[ExchangeOutcome], None]]:
    return [partial(_measurements(state).record, config=config)]


@hookimpl
def nexus_routes(config: QualityConfig, state: dict[str, Any]) -> list[AdminRoute]:
    def respond(query: Mapping[str, str]) -> AdminReply:
        del query
        return quality_page(_measurements(state), config)

    return [AdminRoute("/", respond)]


def _measurements(state: dict[str, Any]) -> Measurements:
    """Return the measurements of this process, which outlive reloads."""
    if "measurements" not in state:
        state["measurements"] = Measurements()
    measurements: Measurements = state["measurements"]
    return measurements
