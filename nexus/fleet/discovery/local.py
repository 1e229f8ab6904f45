"""Looks for servers at the usual ports of this machine."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Final

import msgspec

from nexus.fleet.detection import detect
from nexus.fleet.discovery.discoverer import Discovered, Discoverer
from nexus.fleet.discovery.reaching import answers
from nexus.fleet.fetching import Fetcher, FetchError, Target

USUAL_PORTS: Final[Mapping[int, str]] = {
    11434: "ollama",
    1234: "lmstudio",
    8000: "vllm",
    8080: "llamacpp",
    30000: "sglang",
    52415: "exo",
}
"""The kind of server that usually listens there; what does listen is found out by asking."""

LOOKS_PER_QUESTION: Final = 6
"""Whoever listens is asked what it is only once in so many looks: it may be nobody's language model at all."""


class _Port(msgspec.Struct):
    """What is known of whoever listens at one port."""

    found: Discovered | None = None
    looks_until_asked: int = 0


class LocalDiscoverer(Discoverer):
    """Finds servers on 127.0.0.1, and leaves this Nexus and all others alone."""

    name = "local"

    def __init__(
        self,
        fetcher: Fetcher,
        *,
        interval_s: float,
        own_port: int | None = None,
        usual_ports: Mapping[int, str] = USUAL_PORTS,
    ) -> None:
        self._fetcher = fetcher
        self.interval_s = interval_s
        self._usual_ports = usual_ports
        self._ports = {port: _Port() for port in usual_ports if port != own_port}

    async def watch(self) -> AsyncGenerator[tuple[Discovered, ...], None]:
        while True:
            looks = await asyncio.gather(*map(self._look, self._ports))
            yield tuple(found for found in looks if found is not None)
            await asyncio.sleep(self.interval_s)

    async def _look(self, port: int) -> Discovered | None:
        if not await answers("127.0.0.1", port):
            self._ports[port] = _Port()
            return None
        known = self._ports[port]
        if known.looks_until_asked <= 0:
            known = self._ports[port] = _Port(await self._ask(port, known.found), LOOKS_PER_QUESTION)
        known.looks_until_asked -= 1
        return known.found

    async def _ask(self, port: int, before: Discovered | None) -> Discovered | None:
        url = f"http://127.0.0.1:{port}"
        try:
            answer = await detect(self._fetcher, Target(url))
        except FetchError:
            # It listens and is too busy to answer: whether it is well is for its probes to say.
            return before
        if answer.kind is None or answer.is_nexus:
            return None
        name = answer.kind if answer.kind == self._usual_ports[port] else f"{answer.kind}-{port}"
        return Discovered(name, url, answer.kind)
