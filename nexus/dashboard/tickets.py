"""Tickets for the live feed: a browser cannot send a key with a WebSocket, so it shows one of these instead."""

import secrets
from collections.abc import Callable
from time import monotonic
from typing import Final

LIFETIME_S: Final = 30.0
MAX_TICKETS: Final = 1000


IsAdmitted = Callable[[], bool]
"""Whether what a ticket was issued for, such as a key, still holds."""


class Tickets:
    """Each admits one viewer, once, within half a minute, as long as what it was issued for holds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._issued: dict[str, tuple[float, IsAdmitted]] = {}
        """When each expires, and what it was issued for; oldest first."""

    def issue(self, is_admitted: IsAdmitted) -> str:
        """Return a new ticket; when too many are out, the oldest is worth nothing any more."""
        now = self._clock()
        while self._issued:
            oldest = next(iter(self._issued))
            if self._issued[oldest][0] > now and len(self._issued) < MAX_TICKETS:
                break
            del self._issued[oldest]
        ticket = secrets.token_urlsafe(24)
        self._issued[ticket] = now + LIFETIME_S, is_admitted
        return ticket

    def redeem(self, ticket: str) -> IsAdmitted | None:
        """Return what *ticket* was issued for, if it admits a viewer now; None if not. It never does again."""
        expires_at, is_admitted = self._issued.pop(ticket, (0.0, _never))
        return is_admitted if expires_at > self._clock() and is_admitted() else None


def _never() -> bool:
    return False
