"""What the stages of plugins have measured, remembered over reloads, and what of it Prometheus is not told."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec
import structlog

from nexus.domain.measure import MOST_SAMPLES, Measure, read_samples
from nexus.observability.metrics.plugin_series import Key, PluginSeries
from nexus.routing.stage.order import Place

log = structlog.get_logger("nexus.plugins")

MOST_METRICS: Final = 1000
"""Of all plugins, those that they tell no longer included."""


class PluginMeasures:
    """By the name of its metric, which begins with the plugin's."""

    def __init__(self) -> None:
        self._series: dict[str, PluginSeries] = {}
        self._said: set[tuple[str, str]] = set()
        self._is_reloading = False
        self._given: dict[str, tuple[Measure, Place]] = {}
        """By its name, each metric of this scrape."""
        self._carried: dict[str, tuple[Measure, Place]] = {}
        """Those that a plugin has not given since the last reload, though it did before; without samples."""
        self.left_out: dict[tuple[str, str], int] = {}
        """By metric and reason, what is not told by itself at this scrape."""

    def begin(self) -> None:
        """Begin a scrape."""
        self.left_out, self._given = {}, {}

    def missing(self) -> tuple[tuple[Measure, Place], ...]:
        """Return what is still to be told at this scrape: metrics that plugins gave before the reload."""
        return tuple(carried for name, carried in self._carried.items() if name not in self._given)

    def reload(
        self, ask_before: Callable[[], object], ask_after: Callable[[], object], plugins: AbstractSet[str]
    ) -> None:
        """Let what the stages of a new configuration measure go on from where the old ones have got to.

        :param ask_before: has :meth:`told` called for all that the old stages measure; *ask_after*, the new ones.
        :param plugins: those that have stages after it.
        """
        ask_before()
        before, self._carried = self._given, {}
        self._is_reloading = True
        try:
            ask_after()
        finally:
            self._is_reloading = False
        for name, (measure, place) in before.items():
            if name not in self._given and place.plugin in plugins:
                self._series[name].begin_anew({})
                self._carried[name] = msgspec.structs.replace(measure, samples=()), place

    def told(self, measure: Measure, place: Place) -> tuple[Key, Mapping[Key, float]]:
        """Return the labels of *measure*, which the stage at *place* gives, and what Prometheus is told of it."""
        self._given[measure.name] = measure, place
        read = read_samples(measure)
        series = self._of(measure, read.labels if read.values else None)
        if self._is_reloading:
            series.begin_anew(read.values)
        told = series.told(read.values)
        self._leave_out(place, measure.name, "invalid", read.refused, read.complaint)
        most = f"it has more than {MOST_SAMPLES} series"
        self._leave_out(place, measure.name, "too_many", series.left_out, most)
        return series.labels, told

    def _of(self, measure: Measure, labels: Key | None) -> PluginSeries:
        """:param labels: None when it has no series, and so may have any."""
        is_counter = measure.type == "counter"
        series = self._series.pop(measure.name, None)
        if series is None or series.is_counter != is_counter or (labels is not None and series.labels != labels):
            series = PluginSeries(labels or (), is_counter=is_counter)
        # The one that was told last is the last to be forgotten.
        self._series[measure.name] = series
        if len(self._series) > MOST_METRICS:
            del self._series[next(iter(self._series))]
        return series

    def _leave_out(self, place: Place, metric: str, reason: str, count: int, complaint: str) -> None:
        if not count:
            return
        self.left_out[metric, reason] = count
        if (metric, reason) in self._said or len(self._said) >= MOST_METRICS:
            return
        self._said.add((metric, reason))
        log.warning(
            "series_left_out",
            plugin=place.plugin,
            distribution=place.distribution,
            stage=place.name,
            metric=metric,
            reason=reason,
            count=count,
            complaint=complaint,
        )
