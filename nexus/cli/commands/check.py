"""``nexus-proxy check``: reports whether a start would succeed, without starting anything."""

import asyncio
import http.client
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import urlsplit

import click
import msgspec

from nexus.app.checks.reachability import reachability_warnings
from nexus.app.checks.watched_files import watched_file_warnings
from nexus.app.composition.blueprint import Blueprint, build_blueprint, load_plugins
from nexus.app.process.binding import PortTaken
from nexus.app.process.cores import wanted_workers
from nexus.app.process.file_limit import raise_file_limit
from nexus.app.running.opening import may_move_port, try_to_open
from nexus.cli.arguments.options import Chosen, configuration
from nexus.cli.output.printing import json_option, print_json
from nexus.cli.running_proxy.proxy import VERSION_HEADER
from nexus.errors import ConfigError, NexusError

ANSWER_S: Final = 2.0


@click.command("check")
@configuration
@json_option
def command(chosen: Chosen, *, as_json: bool) -> None:
    """Check whether a start would succeed: the configuration, its secrets, plugins, policies, store and port.

    Starts nothing and leaves nothing behind. Prints a summary, or the error and exits with 78. A port at which a Nexus
    listens already is a warning: it may be the one that has this configuration in force.
    """
    # As at a start: a limit that is too low gives a warning.
    raise_file_limit()
    try:
        loaded = chosen.load_quietly()
        blueprint = build_blueprint(loaded, load_plugins(loaded, chosen.plugin_files))
        found = (*blueprint.warnings, *asyncio.run(_warnings_of_opening(blueprint)))
    except NexusError as exc:
        if as_json:
            print_json(Report(ok=False, error=str(exc)))
        # A check that fails has one exit code, whatever the cause.
        raise ConfigError(str(exc)) from exc
    for warning in found:
        click.echo(f"nexus-proxy: warning: {warning}", err=True)
    if as_json:
        print_json(report(blueprint, (*loaded.warnings, *found)))
        return
    click.echo(f"{blueprint.file}: ok")
    for fact in _summary(blueprint):
        click.echo(f"  {fact}")


async def _warnings_of_opening(blueprint: Blueprint) -> tuple[str, ...]:
    """Open what a start would open, and return warnings. :raises NexusError: it fails."""
    warnings = (
        *await _mdns_warnings(blueprint),
        *await watched_file_warnings(blueprint),
        *await reachability_warnings(blueprint),
    )
    try:
        await try_to_open(blueprint)
    except PortTaken as exc:
        version = await asyncio.to_thread(_version_of_nexus, exc.url)
        if version is None:
            raise
        return (*warnings, f"a Nexus {version} listens at {exc.url} already; a second one cannot start beside it")
    return warnings


async def _mdns_warnings(blueprint: Blueprint) -> tuple[str, ...]:
    """Return a warning when mDNS is used and no announcement can reach this machine."""
    has_finders = bool(blueprint.contributions.discoverers())
    if not (blueprint.fleet.looks_around(has_finders=has_finders) and blueprint.fleet.discovery.mdns):
        return ()
    # zeroconf is slow to import, and most configurations do not need it.
    from nexus.fleet.discovery.mdns.multicast_check import why_multicast_fails

    reason = await why_multicast_fails()
    hint = "name them as [[backends]], or switch discovery.mdns off"
    return () if reason is None else (f"no server on the network will be found by mDNS: {reason}; {hint}",)


def _version_of_nexus(url: str) -> str | None:
    """Return the version of the Nexus that listens at *url*, None for another program."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().headers.get(VERSION_HEADER)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _summary(blueprint: Blueprint) -> Iterator[str]:
    config = blueprint.config
    names = ", ".join(backend.name for backend in config.backends)
    otherwise = " or, if it is taken, the next free one (server.port is not set)" if may_move_port(blueprint) else ""
    yield f"listens on {config.server.host} port {config.server.port}{otherwise}"
    if (workers := wanted_workers(config.server)) > 1 or config.server.workers == "auto":
        yield f"workers: {workers}{' (auto)' if config.server.workers == 'auto' else ''}"
    yield f"keys for clients: {len(blueprint.loaded.server_keys) or 'none'}"
    yield f"keys for administrators: {len(blueprint.loaded.admin_keys) or 'those for clients'}"
    yield f"backends: {names or 'none configured'}"
    yield f"discovery: {', '.join(discoverers_of(blueprint)) or 'off'}"
    if config.discovery.dns:
        looked_up = (f"{dns.name}:{dns.port}" if dns.port else dns.name for dns in config.discovery.dns)
        yield f"names whose servers are used: {', '.join(looked_up)}"
    if config.discovery.file:
        yield f"watched files: {', '.join(source.path for source in config.discovery.file)}"
    if config.discovery.hosts:
        hosts = ", ".join(host for source in config.discovery.hosts for host in source.hosts)
        yield f"hosts whose ports are tried: {hosts}"
    yield f"stages: {', '.join(place.name for place in blueprint.places)}"
    yield f"traffic policies: {len(config.routing.policies) or 'none'}"
    yield f"store: {config.store.kind}"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints: the configuration that was checked, and the result."""

    ok: bool
    """Whether a start would succeed."""
    error: str | None = None
    """Why it would not; then the members below are missing."""
    file: str | msgspec.UnsetType = msgspec.UNSET
    """The file; ``configuration`` without one."""
    host: str | msgspec.UnsetType = msgspec.UNSET
    port: int | msgspec.UnsetType = msgspec.UNSET
    workers: int | msgspec.UnsetType = msgspec.UNSET
    """How many processes would serve."""
    api_keys: int | msgspec.UnsetType = msgspec.UNSET
    """The number of keys for clients."""
    admin_keys: int | msgspec.UnsetType = msgspec.UNSET
    """The number of keys for administrators; with 0, the keys for clients count."""
    backends: list[str] | msgspec.UnsetType = msgspec.UNSET
    """The configured ones, by name."""
    discoverers: list[str] | msgspec.UnsetType = msgspec.UNSET
    """What discovers further ones, by the source that these will have."""
    stages: list[str] | msgspec.UnsetType = msgspec.UNSET
    """In their order."""
    policies: int | msgspec.UnsetType = msgspec.UNSET
    """The number of traffic policies."""
    warnings: list[str] | msgspec.UnsetType = msgspec.UNSET
    """What does not prevent a start but may be a mistake."""


def report(blueprint: Blueprint, warnings: Iterable[str]) -> Report:
    """Return the report of a configuration with which a start would succeed."""
    config = blueprint.config
    return Report(
        ok=True,
        file=blueprint.file,
        host=config.server.host,
        port=config.server.port,
        workers=wanted_workers(config.server),
        api_keys=len(blueprint.loaded.server_keys),
        admin_keys=len(blueprint.loaded.admin_keys),
        backends=[backend.name for backend in config.backends],
        discoverers=discoverers_of(blueprint),
        stages=[place.name for place in blueprint.places],
        policies=len(config.routing.policies),
        warnings=[*warnings],
    )


def discoverers_of(blueprint: Blueprint) -> list[str]:
    """Return the names of the active discoverers, as a backend's source has them."""
    plan = blueprint.fleet
    of_plugins = [str(discoverer.name) for _, discoverer in blueprint.contributions.discoverers()]
    configured = {"dns": plan.discovery.dns, "file": plan.discovery.file, "hosts": plan.discovery.hosts}
    around = ("local", "mdns") if plan.discovery.mdns else ("local",)
    return [
        *of_plugins,
        *(name for name, sources in configured.items() if sources),
        *(around if plan.looks_around(has_finders=bool(of_plugins)) else ()),
    ]
