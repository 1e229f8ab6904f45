"""Keeps requests off cloud backends outside office hours."""

from nexus.api import PluginConfig, Reconciler, RoutingIntent, hookimpl


class NightConfig(PluginConfig):
    """The ``[plugins.night]`` table."""

    first_hour: int = 8
    """The first hour of the day, UTC, in which the cloud may be used."""
    last_hour: int = 18
    """The hour in which that ends."""


class NoCloudAtNight(Reconciler):
    """Excludes cloud backends outside office hours."""

    name = "no-cloud-at-night"
    priority = 250  # after privacy (200), before budget (300)
    on_error = "skip"

    def __init__(self, config: NightConfig) -> None:
        self._config = config

    def reconcile(self, intent: RoutingIntent) -> None:
        if self._config.first_hour <= intent.received_at.hour < self._config.last_hour:
            return
        for backend in intent.candidates_in(zone="open"):
            intent.exclude(
                backend, stage=self.name, reason="cloud backends rest at night", action="Ask again in the morning"
            )


@hookimpl
def nexus_config() -> type[NightConfig]:
    return NightConfig


@hookimpl
def nexus_reconcilers(config: NightConfig) -> list[Reconciler]:
    return [NoCloudAtNight(config)]
