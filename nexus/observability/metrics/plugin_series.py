"""What a plugin counts, as Prometheus is told it: never too much of it, and no counter ever falls.

A metric of a plugin has at most so many series as :data:`MAX_SAMPLES` says. Which these are does not change as long as
the plugin gives them: those that came first. Of the counters beyond, the sum is told as one series whose labels all are
``other``. Of the gauges beyond nothing is told: no number stands for many shares, times and flags at once.

A plugin begins to count anew whenever a reload makes its stages anew, unless it keeps its counts in its state. What it
had counted is added to what it counts now, and goes on being told where it has counted nothing yet.
"""

from collections.abc import Iterable, Mapping
from math import fsum, isfinite
from typing import Final

from nexus.domain.measure import MAX_SAMPLES

OTHER: Final = "other"

MAX_REMEMBERED: Final = 40_000
"""Series of one metric, those that a plugin gives no longer included."""

Key = tuple[str, ...]


class _Series:
    """One series that a plugin gives, or has given."""

    __slots__ = ("before", "is_carried", "is_folded", "now")

    def __init__(self, *, is_folded: bool) -> None:
        self.before = 0.0
        """What it had counted when it last began anew."""
        self.now = 0.0
        """What the plugin said last."""
        self.is_folded = is_folded
        """Whether it is one of the ``other``."""
        self.is_carried = False
        """Whether it is told as it was before the reload, because the plugin has not given it since."""

    @property
    def total(self) -> float:
        return self.before + self.now

    def count(self, value: float) -> None:
        if value < self.now:
            self.before += self.now
        self.now = value
        self.is_carried = False

    def fold(self) -> None:
        """Be one of the ``other`` from now on, with what is counted from now on."""
        self.before, self.is_folded = -self.now if isfinite(self.now) else 0.0, True


class PluginSeries:
    """The series of one metric, for as long as the process lives."""

    def __init__(self, labels: Key, *, is_counter: bool, most: int = MAX_SAMPLES) -> None:
        self.labels: Final = labels
        self.is_counter: Final = is_counter
        self._most = most
        self._series: dict[Key, _Series] = {}
        self._given: frozenset[Key] = frozenset()
        """Those that the plugin gave last."""
        self._kept = 0
        self._forgotten = 0.0
        """What the ``other`` had counted that are remembered no longer."""
        self._other = 0.0
        self.left_out = 0
        """Of the series that the plugin gave last, how many are not told by themselves."""

    def told(self, values: Mapping[Key, float]) -> dict[Key, float]:
        """Take in what the plugin gives now, by the values of the labels, and return what Prometheus is told."""
        self._take_in(values)
        self.left_out = sum(self._series[key].is_folded for key in values)
        shown = {
            key: series.total if self.is_counter else series.now
            for key, series in self._series.items()
            if not series.is_folded and (key in values or series.is_carried)
        }
        if self.is_counter and self.labels and (other := self._sum_of_other()) is not None:
            shown[self._other_key] = other
        return shown

    def begin_anew(self, values: Mapping[Key, float]) -> None:
        """Take in what the plugin gives first after a reload."""
        before = self._given
        self._take_in(values)
        for key in before.difference(values) if self.is_counter else ():
            if (series := self._series.get(key)) is not None:
                series.count(0.0)
                series.is_carried = not series.is_folded

    @property
    def _other_key(self) -> Key:
        return (OTHER,) * len(self.labels)

    def _take_in(self, values: Mapping[Key, float]) -> None:
        self._given = frozenset(values)
        free = iter([key for key in self._unused(values) if not self._series[key].is_folded])
        for key, value in values.items():
            series = self._series.get(key)
            if series is None:
                series = self._series[key] = self._begun(key, free)
            series.count(value)
        if len(self._series) > MAX_REMEMBERED:
            self._forget(self._unused(values))

    def _begun(self, key: Key, free: Iterable[Key]) -> _Series:
        if self.labels and key == self._other_key:
            return _Series(is_folded=True)
        if self._kept >= self._most:
            # One that the plugin gives no longer makes room; should it come back, it is one of the others.
            gone = next(iter(free), None)
            if gone is None:
                return _Series(is_folded=True)
            self._series[gone].fold()
            self._kept -= 1
        self._kept += 1
        return _Series(is_folded=False)

    def _unused(self, values: Mapping[Key, float]) -> list[Key]:
        return [key for key, series in self._series.items() if key not in values and not series.is_carried]

    def _forget(self, unused: Iterable[Key]) -> None:
        for key in list(unused)[: len(self._series) - MAX_REMEMBERED]:
            series = self._series.pop(key)
            if series.is_folded:
                self._forgotten += series.total
            else:
                self._kept -= 1

    def _sum_of_other(self) -> float | None:
        folded = [series.total for series in self._series.values() if series.is_folded]
        if not folded and not self._forgotten:
            return None
        # A sum in floating point may be a little less than the one before.
        self._other = max(self._other, fsum((self._forgotten, *folded)))
        return self._other
