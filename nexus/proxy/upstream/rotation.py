"""Which of several addresses of one backend the next request goes to."""

from collections.abc import Sequence
from time import monotonic
from typing import Final

SHUNNED_S: Final = 5.0
"""How long an address is passed over at which no connection was made."""


class Spread:
    """Gives each address its turn."""

    __slots__ = ("_shunned", "_turn")

    def __init__(self) -> None:
        self._turn = 0
        self._shunned: dict[bytes, float] = {}

    def next(self, hosts: Sequence[bytes]) -> bytes | None:
        """Return the address whose turn it is; None when none of them could be connected to just now."""
        if self._shunned:
            now = monotonic()
            self._shunned = {host: until for host, until in self._shunned.items() if until > now}
            hosts = [host for host in hosts if host not in self._shunned]
        self._turn += 1
        return hosts[self._turn % len(hosts)] if hosts else None

    def reached(self, wanted: bytes | None, host: bytes) -> None:
        """Note that a connection which was to go to *wanted* goes to *host*."""
        if wanted is not None and wanted != host:
            self._shunned[wanted] = monotonic() + SHUNNED_S
