"""A trial request for a backend with penalties; never two at once."""

from nexus.api import AttemptOutcome, Ending, Hold
from nexus_quality.measurements import Measurements
from nexus_quality.track import Track


class Trial(Hold):
    """Keeps other requests off a backend while one request tests it."""

    __slots__ = ("_interval_s", "_measurements", "_track")

    def __init__(self, track: Track, measurements: Measurements, interval_s: float) -> None:
        self._track = track
        self._measurements = measurements
        self._interval_s = interval_s
        track.begin_trial()
        measurements.changes += 1

    def settle(self, outcome: AttemptOutcome) -> None:
        now_s = self._measurements.clock()
        self._measurements.changes += 1
        # An attempt without a slot was never sent and proves nothing: the next request may try at once.
        self._track.end_trial(now_s if outcome.ending is Ending.REJECTED else now_s + self._interval_s)
