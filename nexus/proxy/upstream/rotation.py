"""Chooses to which of several addresses of one backend the next request goes."""

from collections.abc import Sequence
from time import monotonic
from typing import Final

SKIPPED_S: Final = 5.0
"""How long an address is skipped after a connection to it failed."""


class AddressRotation:
    """Takes the addresses in turn."""

    __slots__ = ("_skipped", "_turn")

    def __init__(self) -> None:
        self._turn = 0
        self._skipped: dict[bytes, float] = {}

    def next(self, hosts: Sequence[bytes]) -> bytes | None:
        """Return the next of *hosts*; None while all of them are skipped."""
        if self._skipped:
            now = monotonic()
            self._skipped = {host: until for host, until in self._skipped.items() if until > now}
            hosts = [host for host in hosts if host not in self._skipped]
        self._turn += 1
        return hosts[self._turn % len(hosts)] if hosts else None

    def reached(self, wanted: bytes | None, host: bytes) -> None:
        """Note that a connection meant for *wanted* was made to *host*; a different address means *wanted* failed."""
        if wanted is not None and wanted != host:
            self._skipped[wanted] = monotonic() + SKIPPED_S
