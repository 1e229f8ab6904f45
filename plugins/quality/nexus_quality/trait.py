"""One trait of a model on a backend, such as how often it fails: samples, their mean, and whether it has recovered."""

from typing import Final

from nexus_quality.config import QualityConfig
from nexus_quality.windows import RollingWindow

HOUR: Final = 60
"""In ticks of a minute."""


class Trait:
    """Samples of the last hour, of which smaller is better; a poor trait is forgiven what was before it recovered.

    *most* is the largest sample, and the largest mean, that is still good.
    """

    __slots__ = ("_count", "_good_in_a_row", "_hour", "_recovered_at", "_total")

    def __init__(self) -> None:
        self._hour = RollingWindow(HOUR)
        self._good_in_a_row = 0
        self._recovered_at: int | None = None
        # Since then, as long as that is less than an hour ago; the window tells the rest.
        self._count = 0
        self._total = 0

    def add(self, sample: int, minute: int, most: float, config: QualityConfig) -> bool:
        """Take in *sample* and return whether it is a good one."""
        self._hour.add(sample, minute)
        if self._recovered_at is not None:
            self._count += 1
            self._total += sample
        if sample > most:
            self._good_in_a_row = 0
            return False
        self._good_in_a_row += 1
        if self._good_in_a_row >= config.trial_successes and self.poor_mean(minute, most, config) is not None:
            self._recovered_at = minute
            self._count = self._total = self._good_in_a_row = 0
        return True

    def poor_mean(self, minute: int, most: float, config: QualityConfig) -> float | None:
        """Return the mean since it recovered last, within the hour, if it is above *most*; None: all is well."""
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
        return total / count if count >= config.min_samples and total > most * count else None

    def whole_hour(self, minute: int) -> tuple[int, int]:
        """Return number and sum of all samples of the last hour, forgiven ones included."""
        self._hour.move_to(minute)
        return self._hour.count, self._hour.total
