"""What ``nexus-proxy check`` says of host names in the configuration that cannot be looked up now."""

import asyncio
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import msgspec

from nexus.app.composition.blueprint import Blueprint
from nexus.config.discovery_schema import DnsSourceConfig
from nexus.config.rules.scan_places import names_in
from nexus.dialing import names
from nexus.fleet.discovery.dns.discoverer import why_unknown

LOOK_UP_S: Final = 2.0
MAX_SCANNED_NAMES: Final = 32
"""Of ``[[discovery.hosts]]``, whose names may be many."""


class _Asked(msgspec.Struct, frozen=True):
    """A name, and which key of the configuration has it."""

    host: str
    whose: str


async def name_warnings(blueprint: Blueprint) -> tuple[str, ...]:
    """Return a warning for each name that has no address: of a backend, of the proxy before one, or of discovery."""
    config = blueprint.fleet.discovery
    of_hosts = [_about_host(asked) for asked in _hosts(blueprint)]
    of_scans = [_about_scanned(host) for host in names_in(config.hosts)[:MAX_SCANNED_NAMES]]
    of_sources = [_about_source(source, config.nameservers) for source in config.dns]
    warnings = await asyncio.gather(*of_scans, *of_hosts, *of_sources)
    return tuple(warning for warning in warnings if warning)


def _hosts(blueprint: Blueprint) -> Iterable[_Asked]:
    for member in blueprint.fleet.members.values():
        name, proxy = member.config.name, member.settings.proxy
        if proxy is not None:
            # The name of the backend is looked up by the proxy.
            yield _Asked(proxy.host, f"the https_proxy of backend '{name}'")
        elif host := urlsplit(member.config.url).hostname:
            yield _Asked(host, f"backend '{name}'")


async def _why_unknown(host: str) -> str | None:
    try:
        async with asyncio.timeout(LOOK_UP_S):
            await names.addresses_of(host)
    except TimeoutError:
        return "no name server answers in time"
    except OSError as exc:
        return exc.strerror or str(exc)
    return None


async def _about_scanned(host: str) -> str | None:
    reason = await _why_unknown(host)
    if reason is None:
        return None
    return f"[[discovery.hosts]]: the host '{host}' is not found: {reason}; it is looked up again and again"


async def _about_host(asked: _Asked) -> str | None:
    reason = await _why_unknown(asked.host)
    if reason is None:
        return None
    return f"{asked.whose} cannot be reached now: its host name '{asked.host}' cannot be looked up ({reason})"


async def _about_source(source: DnsSourceConfig, nameservers: tuple[str, ...]) -> str | None:
    reason = await why_unknown(source, nameservers)
    kind = "SRV records" if source.port is None else "addresses"
    return None if reason is None else f"discovery.dns finds no server now: '{source.name}' has no {kind} ({reason})"
