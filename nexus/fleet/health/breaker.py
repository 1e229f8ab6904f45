"""The circuit breaker of one backend: a pure state machine over what requests have met there."""

from typing import Final

import msgspec

from nexus.domain.backend import Breaker

FAILURES_TO_OPEN: Final = 3
"""In a row."""
FIRST_PAUSE_S: Final = 5.0
MAX_PAUSE_S: Final = 120.0
JITTER: Final = 0.5
"""Of the pause, to either side: a fleet of proxies must not come back in step."""


class BreakerState(msgspec.Struct, frozen=True):
    """Closed lets all through; open nobody, for a while; half open one request at a time."""

    breaker: Breaker = Breaker.CLOSED
    failures: int = 0
    """In a row, while it is closed."""
    openings: int = 0
    """Since it was last closed by a success."""

    def after_failure(self) -> "BreakerState":
        """Return the state after one more failure; while it is open, that is old news."""
        if self.breaker is Breaker.OPEN:
            return self
        failures = self.failures + 1
        if self.breaker is Breaker.CLOSED and failures < FAILURES_TO_OPEN:
            return BreakerState(failures=failures)
        return self.opened()

    def after_success(self) -> "BreakerState":
        """Return the state after a request that was answered well: nothing proves more."""
        return BreakerState()

    def after_pause(self) -> "BreakerState":
        """Return the state when the pause is over."""
        return BreakerState(Breaker.HALF_OPEN, openings=self.openings)

    def opened(self) -> "BreakerState":
        """Return the state after a failure that needs no second one."""
        return BreakerState(Breaker.OPEN, openings=self.openings + 1)

    def pause_s(self, chance: float) -> float:
        """Return how long it stays open: doubling with each opening.

        :param chance: in [0, 1), what decides within the jitter.
        """
        doubled = FIRST_PAUSE_S * float(2 ** min(max(0, self.openings - 1), 16))
        return min(MAX_PAUSE_S, doubled) * (1 - JITTER + 2 * JITTER * chance)
