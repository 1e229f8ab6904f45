"""Tickets for the live feed, because a browser cannot send a key with a WebSocket."""

import secrets
from collections.abc import Callable
from time import monotonic
from typing import Final

LIFETIME_S: Final = 30.0
MAX_TICKETS: Final = 1000


IsAdmitted = Callable[[], bool]
"""Returns whether the key that a ticket was issued for is still accepted."""


class Tickets:
    """Each ticket admits one viewer, once, within half a minute, while its key is accepted."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._issued: dict[str, tuple[float, IsAdmitted]] = {}
        """By ticket, when it expires and whether its key is accepted; oldest first."""

    def issue(self, is_admitted: IsAdmitted) -> str:
        """Return a new ticket."""
        ticket = secrets.token_urlsafe(24)
        self.accept(ticket, is_admitted)
        return ticket

    async def share(self, ticket: str, is_admitted: IsAdmitted) -> None:
        """Let other processes know a new ticket before a browser uses it; there are none."""

    def accept(self, ticket: str, is_admitted: IsAdmitted) -> None:
        """Let *ticket* admit a viewer; if there are too many, the oldest is revoked."""
        now = self._clock()
        while self._issued:
            oldest = next(iter(self._issued))
            if self._issued[oldest][0] > now and len(self._issued) < MAX_TICKETS:
                break
            del self._issued[oldest]
        self._issued[ticket] = now + LIFETIME_S, is_admitted

    def redeem(self, ticket: str) -> IsAdmitted | None:
        """Return the check that *ticket* was issued with; None if the ticket is invalid. It cannot be used again."""
        expires_at, is_admitted = self._issued.pop(ticket, (0.0, _never))
        return is_admitted if expires_at > self._clock() and is_admitted() else None


def _never() -> bool:
    return False
