"""Tickets for the live feed: a browser cannot send a key with a WebSocket, so it shows one of these instead."""

import secrets
from collections.abc import Callable
from time import monotonic
from typing import Final

LIFETIME_S: Final = 30.0
MOST_TICKETS: Final = 1000


class Tickets:
    """Each lets one viewer in, once, within half a minute."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._expires_at: dict[str, float] = {}
        """Oldest first."""

    def issue(self) -> str:
        """Return a new ticket; when too many are out, the oldest is worth nothing any more."""
        now = self._clock()
        while self._expires_at:
            oldest = next(iter(self._expires_at))
            if self._expires_at[oldest] > now and len(self._expires_at) < MOST_TICKETS:
                break
            del self._expires_at[oldest]
        ticket = secrets.token_urlsafe(24)
        self._expires_at[ticket] = now + LIFETIME_S
        return ticket

    def redeem(self, ticket: str) -> bool:
        """Whether *ticket* lets somebody in now; it never does again."""
        return self._expires_at.pop(ticket, 0.0) > self._clock()
