"""A rolling window in buckets: how many samples there were lately, and their sum, in memory that does not grow."""

from array import array


class RollingWindow:
    """The samples of the last *buckets* ticks, the current one included; a tick is as long as its owner says."""

    __slots__ = ("_counts", "_tick", "_totals", "count", "total")

    def __init__(self, buckets: int) -> None:
        self._counts = array("I", bytes(buckets * array("I").itemsize))
        self._totals = array("Q", bytes(buckets * array("Q").itemsize))
        self._tick = 0
        self.count = 0
        self.total = 0

    def add(self, sample: int, tick: int) -> None:
        """Take in *sample*, which is not negative, at *tick*."""
        if tick > self._tick:
            self.move_to(tick)
        bucket = self._tick % len(self._counts)
        self._counts[bucket] += 1
        self._totals[bucket] += sample
        self.count += 1
        self.total += sample

    def move_to(self, tick: int) -> None:
        """Forget what has become too old at *tick*. Time that runs backwards stands still."""
        buckets = len(self._counts)
        if self.count:
            for passed in range(max(self._tick + 1, tick - buckets + 1), tick + 1):
                bucket = passed % buckets
                self.count -= self._counts[bucket]
                self.total -= self._totals[bucket]
                self._counts[bucket] = self._totals[bucket] = 0
        self._tick = max(tick, self._tick)
