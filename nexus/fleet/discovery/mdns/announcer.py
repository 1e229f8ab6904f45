"""Announces a server of this machine on the local network by mDNS and DNS-SD."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import ifaddr
import msgspec
import structlog
from zeroconf import NonUniqueNameException
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from nexus import tasks
from nexus.errors import StartError
from nexus.fleet.discovery.mdns.network import MulticastUnavailable, join_network, leave_network

log = structlog.get_logger("nexus.fleet")

SERVICE_TYPES: Final[Mapping[str, str]] = {"ollama": "_ollama._tcp", "vllm": "_vllm._tcp", "lmstudio": "_lmstudio._tcp"}
"""By kind; all other kinds use :data:`ANY_TYPE`."""
ANY_TYPE: Final = "_llm._tcp"
MAX_LABEL_BYTES: Final = 63
REFRESH_S: Final = 5.0
"""How often the announcement is updated if interfaces or addresses have changed."""


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """The content of an announcement."""

    name: str
    """Shown to people; a number is added if another machine announces the same name."""
    port: int
    kind: str
    path: str = ""
    """The base path of the API; empty if it has none."""
    is_tls: bool = False

    @property
    def service_type(self) -> str:
        """In the notation of DNS."""
        return f"{SERVICE_TYPES.get(self.kind, ANY_TYPE)}.local."

    @property
    def hints(self) -> dict[str, str]:
        """The content of the TXT record."""
        optional = {"path": self.path, "tls": "1" if self.is_tls else ""}
        return {"type": self.kind, **{key: value for key, value in optional.items() if value}}


@asynccontextmanager
async def announcing(announcement: Announcement) -> AsyncIterator[str]:
    """Announce until the block ends, then send a goodbye; yields the name that is announced.

    :raises StartError: multicast is not available.
    """
    try:
        network = join_network()
    except MulticastUnavailable as exc:
        raise StartError(f"mDNS cannot be used on this machine: {exc}") from exc
    try:
        info = await _register(network, announcement)
        refreshing = tasks.keep_running(lambda: _refresh(network, announcement, info), name="announce")
        try:
            yield info.name.removesuffix(f".{info.type}")
        finally:
            await tasks.stop(refreshing)
            await network.async_unregister_all_services()
    finally:
        await leave_network(network)


def own_addresses() -> list[str]:
    """Return the addresses at which other machines may reach this one, the most widely reachable first.

    An interface without other addresses contributes its link-local ones of IPv6, each with the interface after a ``%``.
    Link-local ones of IPv4 are left out, because every proxy refuses them (:mod:`nexus.dialing.metadata`).
    """
    routed: set[str] = set()
    link_local: set[str] = set()
    for adapter in ifaddr.get_adapters():
        addresses = [ipaddress.ip_address(ip.ip if isinstance(ip.ip, str) else ip.ip[0]) for ip in adapter.ips]
        of_adapter = {str(each) for each in addresses if not (each.is_loopback or each.is_link_local)}
        routed |= of_adapter
        if not of_adapter:
            link_local |= {f"{each}%{adapter.name}" for each in addresses if each.is_link_local and each.version == 6}
    return [*sorted(routed), *sorted(link_local)]


def host_name() -> str:
    """Return the name of this machine, without a domain."""
    return socket.gethostname().partition(".")[0] or "localhost"


async def _register(network: AsyncZeroconf, announcement: Announcement) -> AsyncServiceInfo:
    info = _service(announcement, _label(announcement.name))
    try:
        await (await network.async_register_service(info, allow_name_change=True))
    except NonUniqueNameException as exc:
        raise StartError(f"another server announces itself as '{announcement.name}'; choose another --name") from exc
    return info


async def _refresh(network: AsyncZeroconf, announcement: Announcement, info: AsyncServiceInfo) -> None:
    addresses = own_addresses()
    while True:
        await asyncio.sleep(REFRESH_S)
        if addresses != (addresses := own_addresses()):
            await network.async_update_interfaces()
            renamed = _service(announcement, info.name.removesuffix(f".{info.type}"))
            await (await network.async_update_service(renamed))
            log.info("announcement_changed", addresses=addresses)


def _service(announcement: Announcement, label: str) -> AsyncServiceInfo:
    return AsyncServiceInfo(
        announcement.service_type,
        f"{label}.{announcement.service_type}",
        port=announcement.port,
        # The name of the interface is valid on this machine only.
        parsed_addresses=[address.partition("%")[0] for address in own_addresses()],
        server=f"{host_name()}.local.",
        properties=announcement.hints,
    )


def _label(name: str) -> str:
    """Return *name* as a DNS label: at most 63 bytes of whole characters."""
    return name.encode()[:MAX_LABEL_BYTES].decode(errors="ignore").strip() or host_name()
