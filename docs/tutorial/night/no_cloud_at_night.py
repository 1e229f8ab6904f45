"""Keeps requests off cloud backends outside office hours."""

from nexus.api import PluginConfig, Reconciler, RoutingIntent, hookimpl


class NightConfig(PluginConfig):
    """The ``[plugins.no_cloud_at_night]`` table."""

    first_hour: int = 8
    last_hour: int = 18


class NoCloudAtNight(Reconciler):
    """Excludes backends of the zone ``open`` (clouds) from ``last_hour`` to ``first_hour`` of the next day, UTC."""

    name = "no-cloud-at-night"
    priority = 250  # after privacy (200), before budget (300)
    on_error = "skip"

    def __init__(self, config: NightConfig) -> None:
        self._config = config

    def reconcile(self, intent: RoutingIntent) -> None:
        if self._config.first_hour <= intent.received_at.hour < self._config.last_hour:
            return
        for backend in intent.candidates_in(zone="open"):
            intent.exclude(backend, stage=self.name, reason="cloud backends rest at night")


@hookimpl
def nexus_config() -> type[NightConfig]:
    return NightConfig


@hookimpl
def nexus_reconcilers(config: NightConfig) -> list[Reconciler]:
    return [NoCloudAtNight(config)]
