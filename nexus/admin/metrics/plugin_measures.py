"""Keeps the metrics of plugins' stages over reloads, and counts the series that are left out."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec
import structlog

from nexus.domain.measure import MAX_SAMPLES, Measure, read_samples
from nexus.observability.metrics.plugin_series import Key, PluginSeries
from nexus.routing.stage.order import Place

log = structlog.get_logger("nexus.plugins")

MAX_METRICS: Final = 1000
"""Of all plugins, including metrics that they no longer give."""


class PluginMeasures:
    """The metrics of all plugins; each name begins with the plugin's."""

    def __init__(self) -> None:
        self._series: dict[str, PluginSeries] = {}
        self._said: set[tuple[str, str]] = set()
        self._is_reloading = False
        self._given: dict[str, tuple[Measure, Place]] = {}
        """The metrics of this scrape, by name."""
        self._carried: dict[str, tuple[Measure, Place]] = {}
        """Metrics that a plugin gave before the last reload and not since; without samples."""
        self.left_out: dict[tuple[str, str], int] = {}
        """How many series are left out of this scrape, by metric and reason."""

    def begin(self) -> None:
        """Begin a scrape."""
        self.left_out, self._given = {}, {}

    def missing(self) -> tuple[tuple[Measure, Place], ...]:
        """Return the metrics that plugins gave before the reload, but not in this scrape."""
        return tuple(carried for name, carried in self._carried.items() if name not in self._given)

    def reload(
        self, scrape_before: Callable[[], object], scrape_after: Callable[[], object], plugins: AbstractSet[str]
    ) -> None:
        """Let the counters of the new stages continue those of the old ones.

        :param scrape_before: calls :meth:`record` for each metric of the old stages; *scrape_after*, of the new ones.
        :param plugins: those that have stages after the reload.
        """
        scrape_before()
        before, self._carried = self._given, {}
        self._is_reloading = True
        try:
            scrape_after()
        finally:
            self._is_reloading = False
        for name, (measure, place) in before.items():
            if name not in self._given and place.plugin in plugins:
                self._series[name].restart({})
                self._carried[name] = msgspec.structs.replace(measure, samples=()), place

    def record(self, measure: Measure, place: Place) -> tuple[Key, Mapping[Key, float]]:
        """Return the labels of *measure*, which the stage at *place* gives, and its values for Prometheus."""
        self._given[measure.name] = measure, place
        read = read_samples(measure)
        series = self._of(measure, read.labels if read.values else None)
        if self._is_reloading:
            series.restart(read.values)
        values = series.exposed(read.values)
        self._leave_out(place, measure.name, "invalid", read.refused, read.complaint)
        most = f"it has more than {MAX_SAMPLES} series"
        self._leave_out(place, measure.name, "too_many", series.left_out, most)
        return series.labels, values

    def _of(self, measure: Measure, labels: Key | None) -> PluginSeries:
        """:param labels: None when *measure* has no samples, so that any labels fit."""
        is_counter = measure.type == "counter"
        series = self._series.pop(measure.name, None)
        if series is None or series.is_counter != is_counter or (labels is not None and series.labels != labels):
            series = PluginSeries(labels or (), is_counter=is_counter)
        # Insertion order is the order of use: the oldest metric is removed first.
        self._series[measure.name] = series
        if len(self._series) > MAX_METRICS:
            del self._series[next(iter(self._series))]
        return series

    def _leave_out(self, place: Place, metric: str, reason: str, count: int, complaint: str) -> None:
        if not count:
            return
        self.left_out[metric, reason] = count
        if (metric, reason) in self._said or len(self._said) >= MAX_METRICS:
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
