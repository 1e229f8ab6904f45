"""Remembers which of a server's pages are worth a request, and what would help if none is."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from nexus.domain.kinds import LoadLookup

ABSENT: Final = frozenset(
    {
        # A llama.cpp in router mode requires the name of a model.
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        # A llama.cpp without --metrics.
        HTTPStatus.NOT_IMPLEMENTED,
    }
)
"""Statuses that stay the same until the server is started with other options."""
ABSENT_S: Final = 3600.0
UNREADABLE_S: Final = 60.0
"""After a page that is no report, which may be a passing fault."""
REFUSED: Final = f"HTTP {HTTPStatus.BAD_REQUEST}"
"""The reason for which a router lacks a page: no option changes that."""


class Endpoints:
    """The pages of one server, as far as its answers have shown."""

    def __init__(self, lookups: Iterable[LoadLookup]) -> None:
        self._lookups = tuple(lookups)
        self._skipped: dict[str, tuple[float, str]] = {}
        """By path: until when it is not asked for, on the monotonic clock, and why."""

    def best(self, now: float, *, version: str | None = None, is_busy: bool = True) -> LoadLookup | None:
        """Return the first page that the server may have; None if there is none.

        :param version: the server's, as far as it is known.
        :param is_busy: whether requests run there; otherwise no page is returned that might wake it.
        """
        for each in self._lookups:
            is_quiet = is_busy or each.wakes is None or not each.wakes(version)
            if is_quiet and self._skipped.get(each.path, (now, ""))[0] <= now:
                return each
        return None

    def skip(self, lookup: LoadLookup, reason: str, *, until: float) -> None:
        """Ask for the next page in the list instead, until a time on the monotonic clock."""
        self._skipped[lookup.path] = until, reason

    def forget(self) -> None:
        """Ask for all of them again: the server has restarted."""
        self._skipped.clear()

    @property
    def why_none(self) -> str:
        """Why no page is asked for, and what would help."""
        if not self._lookups:
            return "servers of its kind report none"
        return self._why_not_first()

    def why_no_requests(self, used: LoadLookup) -> str:
        """Why *used* is read instead of the first page, and what would help; empty if nothing would."""
        first = self._lookups[0]
        is_final = used is first or self._skipped.get(first.path, (0.0, ""))[1] == REFUSED
        return "" if is_final else self._why_not_first()

    def _why_not_first(self) -> str:
        first = self._lookups[0]
        if first.path not in self._skipped:
            return "read only while requests run there, so that the server can sleep"
        reason = self._skipped[first.path][1]
        return f"{first.needs}; {first.path}: {reason}" if first.needs else f"{first.path}: {reason}"
