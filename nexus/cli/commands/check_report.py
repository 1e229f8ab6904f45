"""What ``nexus-proxy check --json`` prints."""

from collections.abc import Iterable

import msgspec

from nexus.app.composition.blueprint import Blueprint


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was checked, and what came of it."""

    ok: bool
    """Whether a start would succeed."""
    error: str | None = None
    """Why it would not; the members below are then missing."""
    file: str | msgspec.UnsetType = msgspec.UNSET
    """The file, ``configuration`` without one."""
    host: str | msgspec.UnsetType = msgspec.UNSET
    port: int | msgspec.UnsetType = msgspec.UNSET
    api_keys: int | msgspec.UnsetType = msgspec.UNSET
    """How many keys clients may show."""
    admin_keys: int | msgspec.UnsetType = msgspec.UNSET
    """How many keys administrators may show; 0: those of clients."""
    backends: list[str] | msgspec.UnsetType = msgspec.UNSET
    """The configured ones, by name."""
    discoverers: list[str] | msgspec.UnsetType = msgspec.UNSET
    """What looks for further ones, by the source that these will have."""
    stages: list[str] | msgspec.UnsetType = msgspec.UNSET
    """In their order."""
    policies: int | msgspec.UnsetType = msgspec.UNSET
    """How many traffic policies there are."""
    warnings: list[str] | msgspec.UnsetType = msgspec.UNSET
    """What keeps nothing from starting, and may not be meant."""


def report(blueprint: Blueprint, warnings: Iterable[str]) -> Report:
    """Return what there is to say of a configuration with which a start would succeed."""
    config = blueprint.config
    return Report(
        ok=True,
        file=blueprint.file,
        host=config.server.host,
        port=config.server.port,
        api_keys=len(blueprint.loaded.server_keys),
        admin_keys=len(blueprint.loaded.admin_keys),
        backends=[backend.name for backend in config.backends],
        discoverers=discoverers_of(blueprint),
        stages=[place.name for place in blueprint.places],
        policies=len(config.routing.policies),
        warnings=[*warnings],
    )


def discoverers_of(blueprint: Blueprint) -> list[str]:
    """Return what looks for backends, by the names that a backend's source has."""
    plan = blueprint.fleet
    of_plugins = [str(discoverer.name) for _, discoverer in blueprint.contributions.discoverers()]
    configured = {"dns": plan.discovery.dns, "file": plan.discovery.file, "hosts": plan.discovery.hosts}
    around = ("local", "mdns") if plan.discovery.mdns else ("local",)
    return [
        *of_plugins,
        *(name for name, sources in configured.items() if sources),
        *(around if plan.looks_around(has_finders=bool(of_plugins)) else ()),
    ]
