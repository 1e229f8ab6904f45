"""What privacy contributes to Nexus."""

from typing import Any

from nexus.api import PluginConfig, Reconciler, hookimpl
from nexus_privacy.config import PrivacyConfig
from nexus_privacy.reconciler import PrivacyReconciler
from nexus_privacy.tally import Tally


@hookimpl
def nexus_config() -> type[PluginConfig]:
    return PrivacyConfig


@hookimpl
def nexus_reconcilers(config: PrivacyConfig, state: dict[str, Any]) -> list[Reconciler]:
    return [PrivacyReconciler(config, state.setdefault("tally", Tally()))]
