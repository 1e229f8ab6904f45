"""Keeps requests off cloud backends outside office hours, unless the policy of the model allows it."""

from datetime import UTC, datetime
from typing import Annotated, ClassVar

import click
from msgspec import Meta

from nexus.api import PluginConfig, PolicyKeys, Priority, Reconciler, RoutingIntent, hookimpl

Hour = Annotated[int, Meta(ge=0, le=24)]


class OfficeKeys(PolicyKeys, frozen=True):
    """The key that it adds to ``[[routing.policies]]``."""

    at_night: bool = False
    """Whether these models may use the cloud at any hour."""


class OfficeConfig(PluginConfig):
    """The ``[plugins.office_hours]`` table."""

    policy_keys: ClassVar[type[PolicyKeys]] = OfficeKeys

    first_hour: Hour = 8
    last_hour: Hour = 18


def is_open(config: OfficeConfig, at: datetime) -> bool:
    """Whether the cloud may be used *at* this time, UTC."""
    return config.first_hour <= at.hour < config.last_hour


class OfficeHours(Reconciler):
    """Excludes cloud backends outside office hours."""

    name = "office-hours"
    priority = Priority.PRIVACY + 50
    on_error = "skip"

    def __init__(self, config: OfficeConfig) -> None:
        self._config = config

    def reconcile(self, intent: RoutingIntent) -> None:
        policies: tuple[OfficeKeys, ...] = intent.policies_of("office_hours")
        # If several policies apply, each must allow it.
        is_allowed = bool(policies) and all(keys.at_night for keys in policies)
        if is_allowed or is_open(self._config, intent.received_at):
            return
        for backend in intent.candidates_in(zone="open"):
            intent.exclude(backend, stage=self.name, reason="cloud backends rest at night")


@hookimpl
def nexus_config() -> type[OfficeConfig]:
    return OfficeConfig


@hookimpl
def nexus_reconcilers(config: OfficeConfig) -> list[Reconciler]:
    return [OfficeHours(config)]


@hookimpl
def nexus_commands(config: OfficeConfig) -> list[click.Command]:
    @click.command("office-hours")
    def command() -> None:
        """Say whether the cloud may be used now."""
        click.echo("open" if is_open(config, datetime.now(UTC)) else "closed")

    return [command]
