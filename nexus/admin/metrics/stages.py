"""What Prometheus is told of the pipeline and its stages, and what the stages tell it themselves."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from nexus.admin.metrics.plugin_measures import PluginMeasures
from nexus.containment import is_interrupt
from nexus.domain.measure import check_family
from nexus.observability.metrics.histogram import Histogram
from nexus.plugin_manager import Plugin
from nexus.routing.pipeline import Pipeline
from nexus.routing.stage.order import BUILT_IN, Place

SUFFIXES: Final = ("", "_total", "_created", "_bucket", "_sum", "_count")
"""What the client library appends to the name of a metric; two metrics that meet there break the whole page."""


class StageMetrics(Collector):
    """Reads the tallies of the pipeline: there is nothing to keep up to date between two scrapes."""

    def __init__(
        self,
        pipeline: Callable[[], Pipeline],
        plugins: Callable[[], Iterable[Plugin]],
        others: Iterable[Metric],
    ) -> None:
        """Read later from these.

        :param others: every other metric of Nexus, whose names are taken.
        """
        self._pipeline = pipeline
        self._plugins = plugins
        own = (*self._own(), _left_out({}))
        self._taken = frozenset(_names(metric for metrics in (others, own) for metric in metrics))
        self._measured = PluginMeasures()

    def collect(self) -> Iterator[Metric]:
        """Make the metrics, for Prometheus's client library."""
        yield from self._own()
        families = [*self._of_stages(self._pipeline())]
        yield _left_out(self._measured.left_out)
        yield from families

    def follow(self, before: Pipeline, after: Pipeline) -> None:
        """Let what the stages of *after* count go on from where those of *before* have got to."""
        self._measured.reload(
            lambda: [*self._of_stages(before)],
            lambda: [*self._of_stages(after)],
            {stage.place.plugin for stage in after.stages},
        )

    def _own(self) -> Iterator[Metric]:
        pipeline = self._pipeline()
        tallies = sorted(pipeline.tally.stages.items())
        yield _histograms(
            "nexus_pipeline_duration_seconds",
            "What all stages together took for a request.",
            {(): pipeline.tally.durations},
        )
        yield _histograms(
            "nexus_reconciler_duration_seconds",
            "What a stage took for a request.",
            {(name,): tally.durations for name, tally in tallies},
            "reconciler",
        )
        yield _counters(
            "nexus_reconciler_exclusions",
            "Backends that a stage took out of the choice for a request.",
            {(name,): tally.exclusions_total for name, tally in tallies},
            "reconciler",
        )
        yield _counters(
            "nexus_reconciler_failures",
            "Failures of a stage, by what it failed at.",
            {(name, part): count for name, tally in tallies for part, count in tally.failures.items()},
            "reconciler",
            "part",
        )
        yield _counters(
            "nexus_reconciler_slow",
            "How often a stage kept all other requests waiting for more than 50 ms.",
            {(name, part): count for name, tally in tallies for part, count in tally.slow.items()},
            "reconciler",
            "part",
        )
        yield _counters(
            "nexus_reconciler_observed",
            "What a stage that only observes would have said.",
            {(name, verb): count for name, tally in tallies for verb, count in tally.observed.items()},
            "reconciler",
            "verdict",
        )
        off = GaugeMetricFamily(
            "nexus_reconciler_switched_off", "1 while a stage is left out for its failures.", labels=["reconciler"]
        )
        for stage in pipeline.stages:
            off.add_metric([stage.place.name], float(stage.is_off))
        yield off
        yield from self._of_observers()

    def _of_observers(self) -> Iterator[Metric]:
        observing = [plugin for plugin in self._plugins() if "nexus_exchange_finished" in plugin.hooks]
        yield _counters(
            "nexus_observer_failures",
            "Failures of a plugin at observing how a request ended.",
            {(plugin.name,): plugin.observing.failures_total for plugin in observing},
            "plugin",
        )
        yield _counters(
            "nexus_observer_slow",
            "How often a plugin kept all requests waiting for more than 50 ms when one had ended.",
            {(plugin.name,): plugin.observing.slow_total for plugin in observing},
            "plugin",
        )

    def _of_stages(self, pipeline: Pipeline) -> Iterator[Metric]:
        """Make what the stages tell; what cannot be told is left out, and is a failure of its stage."""
        taken = set(self._taken)
        self._measured.begin()
        for stage in pipeline.stages:
            for measure in stage.measures() if stage.place.plugin != BUILT_IN else ():
                try:
                    family = self._family(measure, stage.place, taken)
                except BaseException as exc:
                    if is_interrupt(exc):
                        raise
                    stage.failed("measures", exc)
                    continue
                yield family
        for carried, place in self._measured.missing():
            with suppress(ValueError):
                yield self._family(carried, place, taken)

    def _family(self, given: object, place: Place, taken: set[str]) -> Metric:
        measure = check_family(given, place.plugin)
        family_type = CounterMetricFamily if measure.type == "counter" else GaugeMetricFamily
        empty = family_type(measure.name, measure.documentation)
        if not taken.isdisjoint(_names([empty])):
            raise ValueError(f"there is a metric named {measure.name} already")
        labels, values = self._measured.told(measure, place)
        family = family_type(measure.name, measure.documentation, labels=labels)
        for key, value in values.items():
            family.add_metric(key, value)
        taken.update(_names([family]))
        return family


def _left_out(counts: Mapping[tuple[str, str], int]) -> Metric:
    family = GaugeMetricFamily(
        "nexus_plugin_series_left_out",
        "Series of a plugin's metric that are not told by themselves, by the reason.",
        labels=["metric", "reason"],
    )
    for values, count in sorted(counts.items()):
        family.add_metric(values, count)
    return family


def _names(metrics: Iterable[Metric]) -> Iterator[str]:
    return (f"{metric.name}{suffix}" for metric in metrics for suffix in SUFFIXES)


def _counters(name: str, documentation: str, counts: Mapping[tuple[Any, ...], int], *labels: str) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=labels)
    for values, count in sorted(counts.items()):
        family.add_metric(values, count)
    return family


def _histograms(name: str, documentation: str, of: Mapping[tuple[str, ...], Histogram], *labels: str) -> Metric:
    family = HistogramMetricFamily(name, documentation, labels=labels)
    for values, histogram in of.items():
        family.add_metric(values, histogram.buckets(), sum_value=histogram.sum)
    return family
