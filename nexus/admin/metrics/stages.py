"""Metrics of the routing pipeline, and the metrics that stages of plugins measure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final

from nexus.admin.metrics.plugin_measures import PluginMeasures
from nexus.containment import is_interrupt
from nexus.domain.measure import check_family
from nexus.observability.metrics.families import Family, counter, gauge, histogram
from nexus.plugin_manager import Plugin
from nexus.routing.pipeline import Pipeline
from nexus.routing.stage.order import BUILT_IN, Place

SUFFIXES: Final = ("", "_total", "_created", "_bucket", "_sum", "_count")
"""What a format appends to the name of a metric; two metrics that share a result break the whole page."""


_OBSERVING: Final = frozenset({"nexus_observers", "nexus_exchange_finished"})
"""The hooks of plugins that observe how requests end."""


class StageMetrics:
    """Reads the counts of the pipeline at each scrape."""

    def __init__(
        self,
        pipeline: Callable[[], Pipeline],
        plugins: Callable[[], Iterable[Plugin]],
        others: Iterable[Family],
    ) -> None:
        """:param others: every other metric of Nexus, whose names are taken."""
        self._pipeline = pipeline
        self._plugins = plugins
        own = (*self._pipeline_families(), _left_out({}))
        self._taken = frozenset(name for families in (others, own) for family in families for name in _names(family))
        self._measured = PluginMeasures()

    def families(self) -> Iterator[Family]:
        """Make the families, one after the other; only one scrape at a time may do so."""
        yield from self._pipeline_families()
        pipeline = self._pipeline()
        for family in self._plugin_families(pipeline):
            yield family
            if self._pipeline() is not pipeline:
                # Counters go on with those of the new stages, at the next scrape.
                return
        yield _left_out(self._measured.left_out)

    def follow(self, before: Pipeline, after: Pipeline) -> None:
        """Continue the counters of the stages of *before* with those of *after*."""
        self._measured.reload(
            lambda: [*self._plugin_families(before)],
            lambda: [*self._plugin_families(after)],
            {stage.place.plugin for stage in after.stages},
        )

    def _pipeline_families(self) -> Iterator[Family]:
        pipeline = self._pipeline()
        tallies = sorted(pipeline.counters.stages.items())
        yield histogram(
            "nexus_pipeline_duration_seconds",
            "What all stages together took for a request.",
            pipeline.counters.durations,
        )
        yield histogram(
            "nexus_reconciler_duration_seconds",
            "What a stage took for a request.",
            {(name,): tally.durations for name, tally in tallies},
            "reconciler",
        )
        yield counter(
            "nexus_reconciler_exclusions",
            "Backends that a stage took out of the choice for a request.",
            {(name,): tally.exclusions_total for name, tally in tallies},
            "reconciler",
        )
        yield counter(
            "nexus_reconciler_failures",
            "Failures of a stage, by the part that failed.",
            {(name, part): count for name, tally in tallies for part, count in tally.failures.items()},
            "reconciler",
            "part",
        )
        yield counter(
            "nexus_reconciler_slow",
            "How often a stage kept all other requests waiting for more than 50 ms.",
            {(name, part): count for name, tally in tallies for part, count in tally.slow.items()},
            "reconciler",
            "part",
        )
        yield counter(
            "nexus_reconciler_observed",
            "Verdicts of a stage that only observes.",
            {(name, verb): count for name, tally in tallies for verb, count in tally.observed.items()},
            "reconciler",
            "verdict",
        )
        yield gauge(
            "nexus_reconciler_switched_off",
            "1 while a stage is left out for its failures.",
            {(stage.place.name,): int(stage.is_off) for stage in pipeline.stages},
            "reconciler",
            across="max",
        )
        yield gauge(
            "nexus_reconciler_idle",
            "1 while nothing is configured for a stage to decide.",
            {(stage.place.name,): int(stage.is_idle) for stage in pipeline.stages},
            "reconciler",
            across="min",
        )
        yield from self._observer_families()

    def _observer_families(self) -> Iterator[Family]:
        observing = [plugin for plugin in self._plugins() if not _OBSERVING.isdisjoint(plugin.hooks)]
        yield counter(
            "nexus_observer_failures",
            "Failures of a plugin at observing how a request ended.",
            {(plugin.name,): plugin.observing.failures_total for plugin in observing},
            "plugin",
        )
        yield counter(
            "nexus_observer_slow",
            "How often a plugin kept all requests waiting for more than 50 ms when one had ended.",
            {(plugin.name,): plugin.observing.slow_total for plugin in observing},
            "plugin",
        )

    def _plugin_families(self, pipeline: Pipeline) -> Iterator[Family]:
        """Make the families that the stages give; an invalid one is left out and counts as a failure of its stage."""
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

    def _family(self, given: object, place: Place, taken: set[str]) -> Family:
        measure = check_family(given, place.plugin)
        name = measure.name.removesuffix("_total") if measure.type == "counter" else measure.name
        empty = Family(name, measure.type, measure.documentation)
        if not taken.isdisjoint(_names(empty)):
            raise ValueError(f"there is a metric named {measure.name} already")
        labels, values = self._measured.record(measure, place)
        taken.update(_names(empty))
        return Family(name, measure.type, measure.documentation, labels, [*values.items()], measure.merging)


def _left_out(counts: Mapping[tuple[str, str], int]) -> Family:
    return gauge(
        "nexus_plugin_series_left_out",
        "Series of a plugin's metric that are not shown by themselves, by the reason.",
        dict(sorted(counts.items())),
        *("metric", "reason"),
        across="max",
    )


def _names(family: Family) -> Iterator[str]:
    return (f"{family.name}{suffix}" for suffix in SUFFIXES)
