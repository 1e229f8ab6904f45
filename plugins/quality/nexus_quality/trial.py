"""A trial request for a backend with penalties; never two at once."""

from collections.abc import Callable

from nexus.api import AttemptOutcome, Ending, Hold
from nexus_quality.track import Track


class Trial(Hold):
    """Keeps other requests off a backend while one request tests it."""

    __slots__ = ("_clock", "_interval_s", "_track")

    def __init__(self, track: Track, clock: Callable[[], float], interval_s: float) -> None:
        self._track = track
        self._clock = clock
        self._interval_s = interval_s
        track.begin_trial()

    def settle(self, outcome: AttemptOutcome) -> None:
        now_s = self._clock()
        # An attempt without a slot was never sent and proves nothing: the next request may try at once.
        self._track.end_trial(now_s if outcome.ending is Ending.REJECTED else now_s + self._interval_s)
