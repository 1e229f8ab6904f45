"""The series of a plugin's metric: limited in number, and with counters that never decrease.

A metric of a plugin has at most :data:`MAX_SAMPLES` series, which are those that the plugin reported first. Counters
beyond that are summed up in one series, in which all labels are ``other``. Gauges beyond that are omitted, because one
number cannot stand for many shares, times and flags.

At a reload, a plugin's stages start counting from zero, unless they keep their counts in the plugin's state. The old
counts are added to the new ones, and are exposed until the plugin reports the series again.
"""

from collections.abc import Iterable, Mapping
from math import fsum, isfinite
from typing import Final

from nexus.domain.measure import MAX_SAMPLES

OTHER: Final = "other"

MAX_REMEMBERED: Final = 40_000
"""Series of one metric that are kept, including those that the plugin no longer reports."""

Key = tuple[str, ...]


class _Series:
    """One series that a plugin reports, or has reported."""

    __slots__ = ("before", "is_carried", "is_folded", "now")

    def __init__(self, *, is_folded: bool) -> None:
        self.before = 0.0
        """The count before its last reset."""
        self.now = 0.0
        """The value that the plugin reported last."""
        self.is_folded = is_folded
        """Whether it is part of ``other``."""
        self.is_carried = False
        """Whether it keeps its value of before a reload, because the plugin has not reported it since."""

    @property
    def total(self) -> float:
        return self.before + self.now

    def count(self, value: float) -> None:
        if value < self.now:
            self.before += self.now
        self.now = value
        self.is_carried = False

    def fold(self) -> None:
        """Become part of ``other``, with what is counted from now on."""
        self.before, self.is_folded = -self.now if isfinite(self.now) else 0.0, True


class PluginSeries:
    """The series of one metric, which outlive reloads."""

    def __init__(self, labels: Key, *, is_counter: bool, max_series: int = MAX_SAMPLES) -> None:
        self.labels: Final = labels
        self.is_counter: Final = is_counter
        self._max_series = max_series
        self._series: dict[Key, _Series] = {}
        self._reported: frozenset[Key] = frozenset()
        """The series of the plugin's last report."""
        self._kept = 0
        self._forgotten = 0.0
        """The sum of forgotten series of ``other``."""
        self._other = 0.0
        self.left_out = 0
        """How many series of the last report are not exposed by themselves."""

    def exposed(self, values: Mapping[Key, float]) -> dict[Key, float]:
        """Record the *values* that the plugin reports, by the values of their labels, and return those to expose."""
        self._record(values)
        self.left_out = sum(self._series[key].is_folded for key in values)
        shown = {
            key: series.total if self.is_counter else series.now
            for key, series in self._series.items()
            if not series.is_folded and (key in values or series.is_carried)
        }
        if self.is_counter and self.labels and (other := self._sum_of_other()) is not None:
            shown[self._other_key] = other
        return shown

    def restart(self, values: Mapping[Key, float]) -> None:
        """Record the first *values* that the plugin reports after a reload."""
        before = self._reported
        self._record(values)
        for key in before.difference(values) if self.is_counter else ():
            if (series := self._series.get(key)) is not None:
                series.count(0.0)
                series.is_carried = not series.is_folded

    @property
    def _other_key(self) -> Key:
        return (OTHER,) * len(self.labels)

    def _record(self, values: Mapping[Key, float]) -> None:
        self._reported = frozenset(values)
        free = iter([key for key in self._unused(values) if not self._series[key].is_folded])
        for key, value in values.items():
            series = self._series.get(key)
            if series is None:
                series = self._series[key] = self._new_series(key, free)
            series.count(value)
        if len(self._series) > MAX_REMEMBERED:
            self._forget(self._unused(values))

    def _new_series(self, key: Key, free: Iterable[Key]) -> _Series:
        if self.labels and key == self._other_key:
            return _Series(is_folded=True)
        if self._kept >= self._max_series:
            # A series that is no longer reported makes room; if it returns, it is part of `other`.
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
        # Rounding may make a sum a little less than the one before.
        self._other = max(self._other, fsum((self._forgotten, *folded)))
        return self._other
