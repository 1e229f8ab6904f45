"""The hooks of the affinity plugin."""

from typing import Any

from nexus.api import Reconciler, hookimpl
from nexus_affinity.config import AffinityConfig
from nexus_affinity.fleet_caches import FleetCaches
from nexus_affinity.reconciler import AffinityReconciler


@hookimpl
def nexus_config() -> type[AffinityConfig]:
    return AffinityConfig


@hookimpl
def nexus_reconcilers(config: AffinityConfig, state: dict[str, Any]) -> list[Reconciler]:
    if "caches" not in state:
        state["caches"] = FleetCaches()
    return [AffinityReconciler(config, state["caches"])]
