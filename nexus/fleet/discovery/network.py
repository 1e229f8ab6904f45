"""The local network as zeroconf reaches it."""

import logging

from zeroconf import IPVersion
from zeroconf.asyncio import AsyncZeroconf

from nexus.errors import NexusError


class MulticastUnavailable(NexusError):
    """Multicast cannot be used on this machine; the text says why."""


def join_network() -> AsyncZeroconf:
    """Open sockets for mDNS on every interface. :raises MulticastUnavailable: none can be opened."""
    # It warns of each interface that cannot send, such as a loopback without IPv6 routes, which is not worth a line.
    logging.getLogger("zeroconf").setLevel(logging.ERROR)
    try:
        return AsyncZeroconf(ip_version=IPVersion.All)
    except (OSError, RuntimeError) as exc:
        # A RuntimeError where there is no interface at all.
        raise MulticastUnavailable(getattr(exc, "strerror", None) or str(exc)) from exc
