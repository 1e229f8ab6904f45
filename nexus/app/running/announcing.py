"""Announces the proxy by mDNS, if the configuration asks for it."""

import asyncio
from contextlib import AsyncExitStack

import structlog

from nexus import tasks
from nexus.config.rules.checks import is_loopback
from nexus.config.schema import Config
from nexus.errors import StartError

log = structlog.get_logger("nexus.app")

KIND = "nexus"
"""The kind of server in the TXT record, by which other proxies recognise and ignore this one."""


def announce(config: Config, port: int, resources: AsyncExitStack) -> None:
    """Announce the proxy in the background until *resources* are closed; failures are only logged."""
    if not config.discovery.announce:
        return
    if is_loopback(config.server.host):
        log.warning(
            "announcement_not_made", reason=f"server.host is {config.server.host}: other machines cannot connect"
        )
        return
    resources.push_async_callback(tasks.stop, tasks.start(_announce(port), name="announce"))


async def _announce(port: int) -> None:
    # zeroconf is slow to import, and few proxies are announced.
    from nexus.fleet.discovery.mdns.announcer import Announcement, announcing, host_name

    try:
        async with announcing(Announcement(name=f"nexus on {host_name()}", port=port, kind=KIND)) as name:
            log.info("announced", name=name, port=port)
            await asyncio.Event().wait()
    except StartError as exc:
        log.warning("announcement_not_made", reason=str(exc))
