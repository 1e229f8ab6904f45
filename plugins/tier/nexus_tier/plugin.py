"""What tier contributes to Nexus."""

from typing import Any

from nexus.api import PluginConfig, Reconciler, hookimpl
from nexus_tier.config import TierConfig
from nexus_tier.reconciler import TierReconciler
from nexus_tier.tally import Tally


@hookimpl
def nexus_config() -> type[PluginConfig]:
    return TierConfig


@hookimpl
def nexus_reconcilers(config: TierConfig, state: dict[str, Any]) -> list[Reconciler]:
    return [TierReconciler(config, state.setdefault("tally", Tally()))]
