"""Warns of host names in the configuration that cannot be resolved now."""

import asyncio
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from nexus.app.composition.blueprint import Blueprint
from nexus.config.discovery_schema import DnsSourceConfig
from nexus.config.rules.scan_places import names_in
from nexus.dialing import names
from nexus.fleet.discovery.dns.discoverer import why_unknown

LOOK_UP_S: Final = 2.0
MAX_SCANNED_NAMES: Final = 32
"""How many names of ``[[discovery.hosts]]`` are looked up: there may be many."""


async def host_name_warnings(blueprint: Blueprint) -> tuple[str, ...]:
    """Return a warning for each host name of a backend, of its HTTPS proxy or of discovery that has no address."""
    config = blueprint.fleet.discovery
    warnings = await asyncio.gather(
        *(_scanned_host_warning(host) for host in names_in(config.hosts)[:MAX_SCANNED_NAMES]),
        *(_host_warning(host, place) for host, place in _hosts(blueprint)),
        *(_source_warning(source, config.nameservers) for source in config.dns),
    )
    return tuple(warning for warning in warnings if warning)


def _hosts(blueprint: Blueprint) -> Iterable[tuple[str, str]]:
    """Yield the host name for each backend, and how messages name its place."""
    for member in blueprint.fleet.members.values():
        name, proxy = member.config.name, member.settings.proxy
        if proxy is not None:
            # The HTTPS proxy resolves the name of the backend.
            yield proxy.host, f"the https_proxy of backend '{name}'"
        elif host := urlsplit(member.config.url).hostname:
            yield host, f"backend '{name}'"


async def _scanned_host_warning(host: str) -> str | None:
    reason = await _why_unknown(host)
    if reason is None:
        return None
    return f"[[discovery.hosts]]: the host '{host}' is not found: {reason}; the lookup is repeated"


async def _host_warning(host: str, place: str) -> str | None:
    reason = await _why_unknown(host)
    if reason is None:
        return None
    return f"{place} cannot be reached now: its host name '{host}' cannot be looked up ({reason})"


async def _source_warning(source: DnsSourceConfig, nameservers: tuple[str, ...]) -> str | None:
    reason = await why_unknown(source, nameservers)
    kind = "SRV records" if source.port is None else "addresses"
    return None if reason is None else f"discovery.dns finds no server now: '{source.name}' has no {kind} ({reason})"


async def _why_unknown(host: str) -> str | None:
    """Return why *host* cannot be looked up; None if it can."""
    try:
        async with asyncio.timeout(LOOK_UP_S):
            await names.addresses_of(host)
    except TimeoutError:
        return "no name server answers in time"
    except OSError as exc:
        return exc.strerror or str(exc)
    return None
