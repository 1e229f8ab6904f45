"""A histogram that is cheap to record in, for values of every request."""

from bisect import bisect_left
from collections.abc import Sequence
from operator import itemgetter
from typing import Final

DURATION_BUCKETS_S: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
FIRST_CONTENT_BUCKETS_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
TOKEN_GAP_BUCKETS_S: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5)
TOKEN_RATE_BUCKETS: Final = (1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 150.0, 200.0, 500.0)
TOKEN_BUCKETS: Final = (10.0, 50.0, 100.0, 500.0, 1e3, 2e3, 4e3, 8e3, 16e3, 32e3, 64e3, 128e3)
WAIT_BUCKETS_S: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LAG_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

Exemplar = tuple[str, float, float]
"""The id of a request, its value, and its time in Unix seconds."""


class Histogram:
    """The count of each bucket, and the sum of all values."""

    __slots__ = ("_first", "bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """One for each upper bound, and one for larger values; not cumulative."""
        self.sum = 0.0
        self._first = bounds[0]

    def observe(self, value: float) -> None:
        # Most values of some histograms are in the first bucket, where no search is needed.
        self.counts[0 if value <= self._first else bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add(self, other: "Histogram") -> None:
        """Add the values of *other*, which has the same bounds."""
        self.counts = [one + two for one, two in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def __add__(self, other: "Histogram") -> "Histogram":
        """Return the sum of two histograms with the same bounds."""
        both = Histogram(self.bounds)
        both.counts = [one + two for one, two in zip(self.counts, other.counts, strict=True)]
        both.sum = self.sum + other.sum
        return both


class TracedHistogram(Histogram):
    """A histogram that keeps the last request of each bucket as its exemplar."""

    __slots__ = ("exemplars",)

    def __init__(self, bounds: Sequence[float]) -> None:
        super().__init__(bounds)
        self.exemplars: list[Exemplar | None] = [None] * (len(bounds) + 1)

    def add(self, other: Histogram) -> None:
        super().add(other)
        if isinstance(other, TracedHistogram):
            self.exemplars = list(map(_newer, self.exemplars, other.exemplars))

    def trace(self, exemplar: Exemplar) -> None:
        """Record the value of *exemplar*."""
        self.enter(bisect_left(self.bounds, exemplar[1]), exemplar)

    def enter(self, bucket: int, exemplar: Exemplar) -> None:
        """Record the value of *exemplar*, which belongs in *bucket*."""
        self.counts[bucket] += 1
        self.sum += exemplar[1]
        self.exemplars[bucket] = exemplar


def _newer(one: Exemplar | None, two: Exemplar | None) -> Exemplar | None:
    if one is None or two is None:
        return one or two
    return max(one, two, key=_AT)


_AT: Final = itemgetter(2)
