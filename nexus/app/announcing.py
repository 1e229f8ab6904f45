"""The proxy on the local network: announced by mDNS where the configuration asks for it."""

from contextlib import AsyncExitStack

import structlog

from nexus.config.checks import is_loopback
from nexus.config.schema import Config
from nexus.errors import StartError

log = structlog.get_logger("nexus.app")

KIND = "nexus"
"""What the TXT record calls this kind of server; another Nexus leaves it alone."""


async def announce(config: Config, port: int, resources: AsyncExitStack) -> None:
    """Announce the proxy until *resources* are closed; a network without multicast keeps no proxy from starting."""
    if not config.discovery.announce:
        return
    if is_loopback(config.server.host):
        log.warning(
            "announcement_not_made", reason=f"server.host is {config.server.host}: other machines cannot connect"
        )
        return
    # zeroconf takes a while to load, and few proxies need it for this.
    from nexus.fleet.discovery.announcing import Announcement, announced, host_name

    try:
        name = await resources.enter_async_context(
            announced(Announcement(name=f"nexus on {host_name()}", port=port, kind=KIND))
        )
    except StartError as exc:
        log.warning("announcement_not_made", reason=str(exc))
    else:
        log.info("announced", name=name, port=port)
