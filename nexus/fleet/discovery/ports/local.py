"""Finds servers at the usual ports of this machine."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Final

from nexus.fleet.discovery.discoverer import Discovered, Discoverer
from nexus.fleet.discovery.ports.open_port import OpenPort
from nexus.fleet.fetching import Fetcher

USUAL_PORTS: Final[Mapping[int, str]] = {
    11434: "ollama",
    1234: "lmstudio",
    8000: "vllm",
    8080: "llamacpp",
    30000: "sglang",
    52415: "exo",
}
"""The kind that usually listens at each port; the kind of a server that does is detected."""


class LocalDiscoverer(Discoverer):
    """Finds servers on 127.0.0.1, except for this Nexus and others."""

    name = "local"

    def __init__(
        self,
        fetcher: Fetcher,
        *,
        interval_s: float,
        own_port: int | None = None,
        usual_ports: Mapping[int, str] = USUAL_PORTS,
    ) -> None:
        self.interval_s = interval_s
        self._usual_ports = usual_ports
        self._ports = [OpenPort(fetcher, "127.0.0.1", port) for port in usual_ports if port != own_port]

    async def watch(self) -> AsyncGenerator[tuple[Discovered, ...], None]:
        while True:
            await asyncio.gather(*(port.look() for port in self._ports))
            yield tuple(self._found(port.port, port.url, port.kind) for port in self._ports if port.kind is not None)
            await asyncio.sleep(self.interval_s)

    def _found(self, port: int, url: str, kind: str) -> Discovered:
        name = kind if kind == self._usual_ports[port] else f"{kind}-{port}"
        return Discovered(name, url, kind)
