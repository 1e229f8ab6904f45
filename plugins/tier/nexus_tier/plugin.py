"""The hooks of the tier plugin."""

from typing import Any

from nexus.api import PluginConfig, Reconciler, hookimpl
from nexus_tier.config import TierConfig
from nexus_tier.counters import TierCounters
from nexus_tier.reconciler import TierReconciler


@hookimpl
def nexus_config() -> type[PluginConfig]:
    return TierConfig


@hookimpl
def nexus_reconcilers(config: TierConfig, state: dict[str, Any]) -> list[Reconciler]:
    return [TierReconciler(config, state.setdefault("counters", TierCounters()))]
