"""A plugin in a single file."""

from nexus.api import PluginConfig, Reconciler, RoutingIntent, hookimpl


class NightConfig(PluginConfig):
    """The ``[plugins.night]`` table."""

    first_hour: int = 8


class Night(Reconciler):
    name = "no-cloud-at-night"
    priority = 250
    on_error = "skip"

    def reconcile(self, intent: RoutingIntent) -> None:
        for backend in intent:
            intent.exclude(backend, stage=self.name, reason="cloud backends rest at night")


@hookimpl
def nexus_config() -> type[NightConfig]:
    return NightConfig


@hookimpl
def nexus_reconcilers(config: NightConfig) -> list[Reconciler]:
    return [Night()]
