"""Sends no request to a server that was discovered, unless its name is listed."""

from collections.abc import Mapping, Sequence
from typing import Any

from nexus.api import PluginConfig, Priority, Reconciler, RoutingIntent, hookimpl


class KnownConfig(PluginConfig):
    """The ``[plugins.known_servers]`` table."""

    names: tuple[str, ...] | None = None
    """The discovered servers that may be used; unset: all."""


class KnownServers(Reconciler):
    """Excludes discovered servers that the operator has not listed."""

    name = "known-servers"
    priority = Priority.PRIVACY + 10
    depends_on = frozenset()

    def __init__(self, config: KnownConfig) -> None:
        self._names = config.names

    def is_idle(self, policies: Sequence[Mapping[str, Any]]) -> bool:
        del policies
        return self._names is None

    def reconcile(self, intent: RoutingIntent) -> None:
        if self._names is None:
            return
        for backend in intent:
            if backend.discovery_source != "static" and backend.name not in self._names:
                intent.exclude(backend, stage=self.name, reason="Discovered, and not listed in known_servers")


@hookimpl
def nexus_config() -> type[PluginConfig]:
    return KnownConfig


@hookimpl
def nexus_reconcilers(config: KnownConfig) -> list[Reconciler]:
    return [KnownServers(config)]
