"""One port of a host: whether anything listens there, and of which kind it is."""

from collections.abc import Iterable
from typing import Final

from nexus.fleet.discovery.tcp_check import accepts_connections
from nexus.fleet.fetching import Fetcher, FetchError, Target
from nexus.fleet.probing.detection import detect

LOOKS_PER_DETECTION: Final = 6
"""Only one look of this many detects the kind of a listener, which may have nothing to do with language models."""


class OpenPort:
    """The listener at one port."""

    def __init__(self, fetcher: Fetcher, host: str, port: int) -> None:
        """:param host: a name, or an address without brackets."""
        self.host = host
        self.port = port
        spelled = f"[{host}]" if ":" in host else host
        self.place = f"{spelled}:{port}"
        self.url = f"http://{spelled.replace('%', '%25')}:{port}"
        self.is_open = False
        self.kind: str | None = None
        """The kind of the server that listens there; None if its kind is unknown, or if it is a Nexus."""
        self._fetcher = fetcher
        self._last_kind: str | None = None
        self._looks_until_detection = 0

    async def look(self, addresses: Iterable[str] = ()) -> None:
        """Check whether anything listens and, if that is due, detect its kind.

        :param addresses: the addresses of the host's name.
        """
        for address in tuple(addresses) or (self.host,):
            if await accepts_connections(address, self.port):
                break
        else:
            self.close()
            return
        self.is_open = True
        if self._looks_until_detection <= 0:
            await self._detect()
            self._looks_until_detection = LOOKS_PER_DETECTION
        self._looks_until_detection -= 1

    def close(self) -> None:
        """Forget the listener, so that the kind of the next one is detected at once."""
        self.is_open, self.kind, self._looks_until_detection = False, None, 0

    async def _detect(self) -> None:
        try:
            found = await detect(self._fetcher, Target(self.url))
        except FetchError:
            # A busy server may accept connections without responding; its probes decide about its health.
            self.kind = self._last_kind
            return
        self.kind = self._last_kind = None if found.is_nexus else found.kind
