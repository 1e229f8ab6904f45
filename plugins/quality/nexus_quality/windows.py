"""A rolling window in buckets: the number and sum of recent samples, in constant memory."""

from array import array


class RollingWindow:
    """The samples of the last *buckets* ticks, including the current one."""

    __slots__ = ("_counts", "_tick", "_totals", "count", "total")

    def __init__(self, buckets: int) -> None:
        self._counts = array("I", bytes(buckets * array("I").itemsize))
        self._totals = array("Q", bytes(buckets * array("Q").itemsize))
        self._tick = 0
        self.count = 0
        self.total = 0

    def add(self, sample: int, tick: int, count: int = 1) -> None:
        """Add *sample*, which is not negative, at *tick*; or *count* samples whose sum it is."""
        if tick > self._tick:
            self.move_to(tick)
        elif tick <= self._tick - len(self._counts):
            return
        bucket = tick % len(self._counts)
        self._counts[bucket] += count
        self._totals[bucket] += sample
        self.count += count
        self.total += sample

    def move_to(self, tick: int) -> None:
        """Drop buckets that are too old at *tick*. An earlier tick changes nothing."""
        buckets = len(self._counts)
        if self.count:
            for passed in range(max(self._tick + 1, tick - buckets + 1), tick + 1):
                bucket = passed % buckets
                self.count -= self._counts[bucket]
                self.total -= self._totals[bucket]
                self._counts[bucket] = self._totals[bucket] = 0
        self._tick = max(tick, self._tick)
