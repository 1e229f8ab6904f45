"""The circuit breaker of a backend or of one of its models: a pure state machine."""

from typing import Final

import msgspec

from nexus.domain.backend import Breaker

FAILURES_TO_OPEN: Final = 3
"""Consecutive failures."""
FIRST_PAUSE_S: Final = 5.0
MAX_PAUSE_S: Final = 120.0
JITTER: Final = 0.5
"""The share by which a pause varies to either side, so that several proxies do not retry at the same time."""


class BreakerState(msgspec.Struct, frozen=True):
    """Closed admits all requests, open none until its pause is over, and half open one at a time."""

    breaker: Breaker = Breaker.CLOSED
    failures: int = 0
    """Consecutive ones while it is closed."""
    openings: int = 0
    """Since a success last closed it."""

    def after_failure(self) -> "BreakerState":
        """Return the state after one more failure; the late failure of an older request does not change an open one."""
        if self.breaker is Breaker.OPEN:
            return self
        failures = self.failures + 1
        if self.breaker is Breaker.CLOSED and failures < FAILURES_TO_OPEN:
            return BreakerState(failures=failures)
        return self.opened()

    def after_success(self) -> "BreakerState":
        """Return the state after a success, which always closes it."""
        return BreakerState()

    def after_pause(self) -> "BreakerState":
        """Return the state when the pause is over."""
        return BreakerState(Breaker.HALF_OPEN, openings=self.openings)

    def opened(self) -> "BreakerState":
        """Return the state after a failure that opens it at once."""
        return BreakerState(Breaker.OPEN, openings=self.openings + 1)

    def pause_s(self, chance: float) -> float:
        """Return how long it stays open, which doubles with each opening.

        :param chance: in [0, 1), selects the jitter.
        """
        doubled = FIRST_PAUSE_S * float(2 ** min(max(0, self.openings - 1), 16))
        return min(MAX_PAUSE_S, doubled) * (1 - JITTER + 2 * JITTER * chance)
