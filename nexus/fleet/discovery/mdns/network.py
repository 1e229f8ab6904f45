"""Joins and leaves the local network with zeroconf, and lists its interfaces."""

import asyncio
import logging
from ipaddress import ip_address

import ifaddr
from zeroconf import IPVersion
from zeroconf.asyncio import AsyncZeroconf

from nexus import tasks
from nexus.errors import NexusError


class MulticastUnavailable(NexusError):
    """Multicast cannot be used on this machine; the text says why."""


def join_network() -> AsyncZeroconf:
    """Open sockets for mDNS on every interface. :raises MulticastUnavailable: none can be opened."""
    # zeroconf warns of each interface that cannot send, such as a loopback without IPv6 routes.
    logging.getLogger("zeroconf").setLevel(logging.ERROR)
    try:
        return AsyncZeroconf(ip_version=IPVersion.All)
    except (OSError, RuntimeError) as exc:
        # zeroconf raises RuntimeError if there is no interface.
        raise MulticastUnavailable(getattr(exc, "strerror", None) or str(exc)) from exc


async def leave_network(network: AsyncZeroconf) -> None:
    """Send goodbyes and close the sockets; a cancellation takes effect only after that."""
    closing = tasks.start(network.async_close(), name="mdns-close")
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await asyncio.wait([closing])
        raise


def interfaces() -> frozenset[tuple[str, str]]:
    """Return the current interfaces of this machine with all their addresses."""
    return frozenset((adapter.name, str(ip.ip)) for adapter in ifaddr.get_adapters() for ip in adapter.ips)


def has_network() -> bool:
    """Whether this machine has any address other than loopback."""
    texts = (ip.ip if isinstance(ip.ip, str) else ip.ip[0] for adapter in ifaddr.get_adapters() for ip in adapter.ips)
    return not all(ip_address(text).is_loopback for text in texts)
