"""Warns of hosts and backends in the configuration that cannot be reached now."""

import asyncio
from collections.abc import Iterable
from typing import Final

from nexus.app.composition.blueprint import Blueprint
from nexus.config.discovery_schema import DnsSourceConfig
from nexus.config.rules.scan_places import names_in
from nexus.dialing import names
from nexus.dialing.dial import Address, address_of, dial
from nexus.errors import RequestError, UpstreamError
from nexus.fleet.discovery.dns.discoverer import why_unknown

LOOK_UP_S: Final = 2.0
CONNECT_S: Final = 2.0
MAX_CONNECTING: Final = 64
"""How many backends are tried at once."""
MAX_SCANNED_NAMES: Final = 32
"""How many names of ``[[discovery.hosts]]`` are looked up: there may be many."""


async def reachability_warnings(blueprint: Blueprint) -> tuple[str, ...]:
    """Return a warning for each backend that cannot be connected to, and each host of discovery without an address."""
    config = blueprint.fleet.discovery
    turn = asyncio.Semaphore(MAX_CONNECTING)
    warnings = await asyncio.gather(
        *(_scanned_host_warning(host) for host in names_in(config.hosts)[:MAX_SCANNED_NAMES]),
        *(_backend_warning(name, address, turn) for name, address in _backends(blueprint)),
        *(_source_warning(source, config.nameservers) for source in config.dns),
    )
    return tuple(warning for warning in warnings if warning)


def _backends(blueprint: Blueprint) -> Iterable[tuple[str, Address]]:
    """Yield the name and the address of each configured backend."""
    for member in blueprint.fleet.members.values():
        yield member.config.name, address_of(member.config.url, member.settings)


async def _scanned_host_warning(host: str) -> str | None:
    reason = await _why_unknown(host)
    if reason is None:
        return None
    return f"[[discovery.hosts]]: the host '{host}' is not found: {reason}; the lookup is repeated"


async def _backend_warning(name: str, address: Address, turn: asyncio.Semaphore) -> str | None:
    # An HTTPS proxy looks up the name of the backend itself.
    host, port = address.next_hop
    async with turn:
        if (reason := await _why_unknown(host)) is not None:
            place = f"backend '{name}'" if address.proxy is None else f"the https_proxy of backend '{name}'"
            return f"{place} cannot be reached now: its host name '{host}' cannot be looked up ({reason})"
        try:
            (await dial(address, _Unused, timeout_s=CONNECT_S)).close()
        except (RequestError, UpstreamError) as exc:
            return f"backend '{name}' cannot be reached now, at {host} port {port} ({exc})"
    return None


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


class _Unused(asyncio.Protocol):
    """A connection that is closed once it is open."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def close(self) -> None:
        self._transport.close()
