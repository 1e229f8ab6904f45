"""One port of a host: whether anything listens there and, asked only now and then, what it is."""

from collections.abc import Iterable
from typing import Final

from nexus.fleet.discovery.tcp_check import answers
from nexus.fleet.fetching import Fetcher, FetchError, Target
from nexus.fleet.probing.detection import detect

LOOKS_PER_QUESTION: Final = 6
"""A listener is asked what it is once in so many looks: it may have nothing to do with language models."""


class OpenPort:
    """What is known of the listener at one port."""

    def __init__(self, fetcher: Fetcher, host: str, port: int) -> None:
        """:param host: a name, or an address without brackets."""
        self.host = host
        self.port = port
        spelled = f"[{host}]" if ":" in host else host
        self.place = f"{spelled}:{port}"
        self.url = f"http://{spelled.replace('%', '%25')}:{port}"
        self.is_open = False
        self.kind: str | None = None
        """Of the server that listens there; None: none of a known kind does, or it is a Nexus."""
        self._fetcher = fetcher
        self._last_kind: str | None = None
        self._looks_until_asked = 0

    async def look(self, addresses: Iterable[str] = ()) -> None:
        """Find out whether anything listens and, if it is time for that, of which kind it is.

        :param addresses: those that the host's name leads to.
        """
        for address in tuple(addresses) or (self.host,):
            if await answers(address, self.port):
                break
        else:
            self.close()
            return
        self.is_open = True
        if self._looks_until_asked <= 0:
            await self._ask()
            self._looks_until_asked = LOOKS_PER_QUESTION
        self._looks_until_asked -= 1

    def close(self) -> None:
        """Forget what listened there: what listens next is asked at once."""
        self.is_open, self.kind, self._looks_until_asked = False, None, 0

    async def _ask(self) -> None:
        try:
            answer = await detect(self._fetcher, Target(self.url))
        except FetchError:
            # It listens and is too busy to answer, as it may have been too busy to take a connection at the last look:
            # whether it is well is for its probes to say.
            self.kind = self._last_kind
            return
        self.kind = self._last_kind = None if answer.is_nexus else answer.kind
