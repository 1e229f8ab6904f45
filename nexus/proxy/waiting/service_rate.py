"""How fast a backend takes requests from the queue, measured while requests wait for it."""

from math import exp
from typing import Final

AGE_S: Final = 60.0
"""What was measured so long ago has lost all but 1/e of its weight."""
ASSUMED_S: Final = 1.0
"""Until more is measured, a backend counts as taking one request in this time, which weighs as much as one request."""


class ServiceRate:
    """An ageing rate; the clock stands still while nothing waits."""

    __slots__ = ("_served", "_since", "_time_s")

    def __init__(self) -> None:
        self._served = 0.0
        self._time_s = 0.0
        self._since: float | None = None
        """Monotonic seconds of the last update; None while nothing waits."""

    def resume(self, now: float) -> None:
        """Start the clock, unless it runs."""
        if self._since is None:
            self._since = now

    def pause(self, now: float) -> None:
        """Stop the clock."""
        self._age(now)
        self._since = None

    def note(self, now: float) -> None:
        """Count one request that was taken from the queue."""
        self._age(now)
        self._served += 1.0

    def per_second(self, now: float) -> float:
        """Return the requests taken per second."""
        self._age(now)
        return (self._served + 1.0) / (self._time_s + ASSUMED_S)

    @property
    def is_measured(self) -> bool:
        """Whether more than the assumption is known."""
        return self._served > 0.0

    def _age(self, now: float) -> None:
        if self._since is None:
            return
        left = exp(-max(0.0, now - self._since) / AGE_S)
        self._served *= left
        self._time_s = self._time_s * left + AGE_S * (1.0 - left)
        self._since = now
