"""The hooks of the privacy plugin."""

from typing import Any

from nexus.api import PluginConfig, Reconciler, hookimpl
from nexus_privacy.config import PrivacyConfig
from nexus_privacy.counters import RestrictionCounters
from nexus_privacy.reconciler import PrivacyReconciler


@hookimpl
def nexus_config() -> type[PluginConfig]:
    return PrivacyConfig


@hookimpl
def nexus_reconcilers(config: PrivacyConfig, state: dict[str, Any]) -> list[Reconciler]:
    return [PrivacyReconciler(config, state.setdefault("counters", RestrictionCounters()))]
