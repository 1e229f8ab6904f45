"""Checks whether multicast works on this machine, by announcing a service and waiting for the announcement."""

import asyncio
import uuid
from typing import Final

from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo

from nexus.fleet.discovery.mdns.network import MulticastUnavailable, has_network, join_network, leave_network

ECHO_TIMEOUT_S: Final = 3.0
DISCARD_PORT: Final = 9
"""RFC 863: a listener there never responds."""


async def why_multicast_fails(within_s: float = ECHO_TIMEOUT_S) -> str | None:
    """Return why servers on the network cannot be found; None if the announcement comes back."""
    # Without a network it would come back through loopback.
    if not has_network():
        return "this machine is connected to no network"
    try:
        sender, receiver = join_network(), join_network()
    except MulticastUnavailable as exc:
        return f"multicast cannot be used: {exc}"
    is_received = asyncio.Event()

    def note(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        del zeroconf, service_type, name, state_change
        is_received.set()

    service_type = f"_nx{uuid.uuid4().hex[:12]}._tcp.local."
    browser = AsyncServiceBrowser(receiver.zeroconf, service_type, handlers=[note])
    try:
        info = AsyncServiceInfo(service_type, f"check.{service_type}", port=DISCARD_PORT, server="check.local.")
        await sender.async_register_service(info, cooperating_responders=True)
        async with asyncio.timeout(within_s):
            await is_received.wait()
    except (OSError, TimeoutError):
        return "the proxy's own announcement did not come back"
    finally:
        await browser.async_cancel()
        await sender.async_unregister_all_services()
        await asyncio.gather(leave_network(sender), leave_network(receiver))
    return None
