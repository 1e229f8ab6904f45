"""Whether multicast works here: a made-up service is announced, and listened for."""

import asyncio
import uuid
from typing import Final

from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo

from nexus.fleet.discovery.mdns.network import MulticastUnavailable, has_network, join_network, leave_network

HEARD_WITHIN_S: Final = 3.0
DISCARD_PORT: Final = 9
"""RFC 863: nothing that listens there answers."""


async def why_unheard(within_s: float = HEARD_WITHIN_S) -> str | None:
    """Return why servers on the network cannot be found here; None when an announcement of our own comes back."""
    # It would come back through loopback.
    if not has_network():
        return "this machine is connected to no network"
    try:
        speaking, listening = join_network(), join_network()
    except MulticastUnavailable as exc:
        return f"multicast cannot be used: {exc}"
    is_heard = asyncio.Event()

    def note(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        del zeroconf, service_type, name, state_change
        is_heard.set()

    service_type = f"_nx{uuid.uuid4().hex[:12]}._tcp.local."
    browser = AsyncServiceBrowser(listening.zeroconf, service_type, handlers=[note])
    try:
        info = AsyncServiceInfo(service_type, f"check.{service_type}", port=DISCARD_PORT, server="check.local.")
        await speaking.async_register_service(info, cooperating_responders=True)
        async with asyncio.timeout(within_s):
            await is_heard.wait()
    except (OSError, TimeoutError):
        return "the proxy's own announcement did not come back"
    finally:
        await browser.async_cancel()
        await speaking.async_unregister_all_services()
        await asyncio.gather(leave_network(speaking), leave_network(listening))
    return None
