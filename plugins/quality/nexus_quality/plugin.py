"""The hooks of the plugin: what it gives Nexus, and where that is."""

from collections.abc import Mapping
from typing import Any

from nexus.api import AdminReply, AdminRoute, ExchangeOutcome, Reconciler, hookimpl
from nexus_quality.config import QualityConfig
from nexus_quality.ledger import Ledger
from nexus_quality.reconciler import QualityReconciler
from nexus_quality.showing import page_of


@hookimpl
def nexus_config() -> type[QualityConfig]:
    return QualityConfig


@hookimpl
def nexus_reconcilers(config: QualityConfig, state: dict[str, Any]) -> list[Reconciler]:
    return [QualityReconciler(config, _ledger(state))]


@hookimpl
def nexus_exchange_finished(config: QualityConfig, outcome: ExchangeOutcome, state: dict[str, Any]) -> None:
    _ledger(state).record(outcome, config)


@hookimpl
def nexus_routes(config: QualityConfig, state: dict[str, Any]) -> list[AdminRoute]:
    def respond(query: Mapping[str, str]) -> AdminReply:
        del query
        return page_of(_ledger(state), config)

    return [AdminRoute("/", respond)]


def _ledger(state: dict[str, Any]) -> Ledger:
    """Return what has been learnt so far; it outlives every reload."""
    if "ledger" not in state:
        state["ledger"] = Ledger()
    ledger: Ledger = state["ledger"]
    return ledger
