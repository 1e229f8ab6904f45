"""The mean of the samples of the last hour, such as failures, or since the last recovery within it."""

from typing import Final

from nexus_quality.config import QualityConfig
from nexus_quality.windows import RollingWindow

HOUR: Final = 60
"""In minutes."""


class HourlyMean:
    """Samples of the last hour, of which smaller is better; samples from before a recovery do not count.

    *limit* is the largest sample, and the largest mean, that is still good.
    """

    __slots__ = ("_count", "_good_in_a_row", "_hour", "_recovered_at", "_total")

    def __init__(self) -> None:
        self._hour = RollingWindow(HOUR)
        self._good_in_a_row = 0
        self._recovered_at: int | None = None
        # Since the recovery, if that is less than an hour ago; otherwise the window counts.
        self._count = 0
        self._total = 0

    def add(self, sample: int, minute: int, limit: float, config: QualityConfig) -> bool:
        """Record *sample* and return whether it is good."""
        self._hour.add(sample, minute)
        if self._recovered_at is not None:
            self._count += 1
            self._total += sample
        if sample > limit:
            self._good_in_a_row = 0
            return False
        self._good_in_a_row += 1
        if self._good_in_a_row >= config.trial_successes and self.poor_mean(minute, limit, config) is not None:
            self._recovered_at = minute
            self._count = self._total = self._good_in_a_row = 0
        return True

    def add_good(self, count: int, total: int, minute: int) -> None:
        """Record *count* good samples with this sum, in an hour that has no others and so no poor mean."""
        self._hour.add(total, minute, count)
        self._good_in_a_row += count
        if self._recovered_at is not None:
            self._count += count
            self._total += total

    def poor_mean(self, minute: int, limit: float, config: QualityConfig) -> float | None:
        """Return the mean since the last recovery within the hour if it is above *limit*; None otherwise."""
        hour = self._hour
        if not hour.total or hour.count < config.min_samples:
            return None
        hour.move_to(minute)
        count, total = hour.count, hour.total
        if self._recovered_at is not None:
            if minute - self._recovered_at < HOUR:
                count, total = self._count, self._total
            else:
                self._recovered_at = None
        return total / count if count >= config.min_samples and total > limit * count else None

    def whole_hour(self, minute: int) -> tuple[int, int]:
        """Return the number and sum of all samples of the last hour, including those before a recovery."""
        self._hour.move_to(minute)
        return self._hour.count, self._hour.total
