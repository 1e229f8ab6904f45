"""Finds backends in a text file of URLs, one per line, which may change at any time."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from nexus.api import Discovered, Discoverer, PluginConfig, hookimpl


class HostsConfig(PluginConfig):
    """The ``[plugins.hosts_file]`` table."""

    path: str = "hosts.txt"
    every_seconds: float = 5.0


class HostsFile(Discoverer):
    """Reads the file every few seconds."""

    name = "hosts-file"

    def __init__(self, config: HostsConfig) -> None:
        self._config = config

    async def watch(self) -> AsyncGenerator[tuple[Discovered, ...], None]:
        while True:
            # In a thread: the file may be on a network, and must not block the event loop.
            text = await asyncio.to_thread(Path(self._config.path).read_text)
            yield tuple(Discovered(name=url.rpartition("/")[2], url=url) for url in text.split())
            await asyncio.sleep(self._config.every_seconds)


@hookimpl
def nexus_config() -> type[HostsConfig]:
    return HostsConfig


@hookimpl
def nexus_discoverers(config: HostsConfig) -> list[Discoverer]:
    return [HostsFile(config)]
