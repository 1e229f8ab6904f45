"""Metrics of stages, whatever the stages do."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from structlog.testing import capture_logs

from nexus.admin.metrics.stages import StageMetrics
from nexus.domain.measure import MAX_SAMPLES, Measure, Sample
from nexus.errors import StageFailed
from nexus.observability.metrics.exposition import pieces
from nexus.observability.metrics.families import gauge
from nexus.plugin_manager import Plugin
from nexus.routing.pipeline import Pipeline
from nexus.routing.stage.api import Reconciler
from nexus.routing.stage.order import in_order
from nexus.testing.builders import make_intent


class Telling(Reconciler):
    priority = 500
    on_error = "skip"

    def __init__(self, name, *measures, does=lambda _: None):
        self.name = name
        self._measures = measures
        self._does = does

    def reconcile(self, intent):
        self._does(intent)

    def measures(self):
        for measure in self._measures:
            if isinstance(measure, Exception):
                raise measure
            yield measure


def owls(name="nexus_night_owls", value=3, type_="gauge", **labels):
    return Measure(name=name, documentation="Owls.", type=type_, samples=(Sample(value, labels),))


def pipeline_of(*stages, **operator):
    return Pipeline(in_order((), [(Plugin(s.name, s.name, "1", {}), s) for s in stages], **operator))


def telling(pipeline, plugins=()):
    return StageMetrics(lambda: pipeline, lambda: plugins, [gauge("nexus_queue_depth", "x", 0)])


def told(pipeline, plugins=()):
    """Return the values of all samples by name and labels, as both formats tell them."""
    return told_by(telling(pipeline, plugins))


def told_by(metrics):
    text, openmetrics = (b"".join(pieces(metrics.families(), is_openmetrics=it)).decode() for it in (False, True))
    families = [*parse(text)]
    assert len({family.name for family in families}) == len(families)
    assert list(parse_openmetrics(f"{openmetrics}# EOF\n"))
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}


def excluding(intent):
    for backend in intent:
        intent.exclude(backend, stage="night", reason="for the test")


def fails(_):
    raise ValueError


def test_stages_are_timed_and_their_exclusions_counted():
    pipeline = pipeline_of(Telling("night", does=excluding), Telling("other"))
    pipeline.run(make_intent(backends={"a": "local", "b": "cloud"}))

    values = told(pipeline)

    assert values["nexus_pipeline_duration_seconds_count",] == 1
    assert values["nexus_reconciler_duration_seconds_count", "night"] == 1
    assert values["nexus_reconciler_duration_seconds_bucket", "+Inf", "other"] == 1
    assert values["nexus_reconciler_exclusions_total", "night"] == 2
    assert values["nexus_reconciler_exclusions_total", "other"] == 0


def test_failures_are_counted_and_switched_off_stages_shown():
    pipeline = pipeline_of(Telling("night", does=fails), Telling("other"))
    with capture_logs():
        for _ in range(7):
            pipeline.run(make_intent())

    values = told(pipeline)

    assert values["nexus_reconciler_failures_total", "night", "reconcile"] == 5
    assert values["nexus_reconciler_switched_off", "night"] == 1
    assert values["nexus_reconciler_switched_off", "other"] == 0


def test_verdicts_of_an_observing_stage_are_counted():
    pipeline = pipeline_of(Telling("night", does=excluding), observe=["night"])
    pipeline.run(make_intent(backends={"a": "local", "b": "cloud"}))

    values = told(pipeline)

    assert values["nexus_reconciler_observed_total", "exclude", "night"] == 2
    assert values["nexus_reconciler_exclusions_total", "night"] == 0


def test_a_reload_resets_no_counter():
    before, after = pipeline_of(Telling("night", does=excluding), Telling("gone")), pipeline_of(Telling("night"))
    before.run(make_intent(backends={"a": "local"}))
    earlier = told(before)

    after.follow(before)

    later = told(after)
    gauges = ("nexus_reconciler_switched_off", "nexus_reconciler_idle")
    assert all(later[key] >= value for key, value in earlier.items() if key[0] not in gauges)


def test_observers_that_fail_are_counted():
    plugin = Plugin("night", "d", "1", {"nexus_exchange_finished": ()})
    plugin.observing.failures_total, plugin.observing.slow_total = 2, 1

    values = told(pipeline_of(), [plugin, Plugin("other", "d", "1", {})])

    assert values["nexus_observer_failures_total", "night"] == 2
    assert values["nexus_observer_slow_total", "night"] == 1
    assert ("nexus_observer_failures_total", "other") not in values


def test_measures_of_stages_are_exported():
    night = Telling("night", owls(wood="ü"), owls("nexus_night_hoots", type_="counter"))

    values = told(pipeline_of(night, Telling("dusk", owls("nexus_dusk_owls"))))

    assert values["nexus_night_owls", "ü"] == 3
    assert values["nexus_night_hoots_total",] == 3
    assert values["nexus_dusk_owls",] == 3


@pytest.mark.parametrize(
    "bad",
    [
        ValueError("no measures today"),
        "nexus_night_owls",
        owls("nexus_queue_depth"),
        owls("owls"),
        owls("nexus_night_hoots"),
    ],
)
def test_an_invalid_measure_is_left_out_logged_once_and_counted(bad):
    pipeline = pipeline_of(Telling("dusk", owls("nexus_dusk_owls")), Telling("night", owls("nexus_night_hoots"), bad))

    with capture_logs() as logs:
        told(pipeline)
        values = told(pipeline)

    assert values["nexus_dusk_owls",] == 3
    assert ("nexus_night_owls",) not in values
    assert [(line["event"], line["stage"]) for line in logs] == [("stage_not_measured", "night")]
    assert pipeline.counters.stages["night"].failures["measures"] >= 2


@pytest.mark.parametrize(
    "bad",
    [
        Sample("three"),
        Sample(3, {"wood": 3}),
        Sample(float("nan")),
        Sample(-1),
        "three",
        Sample(1),
        Sample(1, {"a": "b"}),
    ],
)
def test_an_invalid_sample_is_left_out_alone_and_counted(bad):
    measure = Measure(name="nexus_night_hoots", documentation="Hoots.", type="counter", samples=(Sample(5), bad))
    metrics = telling(pipeline_of(Telling("night", measure)))

    with capture_logs() as logs:
        told_by(metrics)
        values = told_by(metrics)

    assert values["nexus_night_hoots_total",] == 5
    assert values["nexus_plugin_series_left_out", "invalid", "nexus_night_hoots"] == 1
    assert [(line["event"], line["stage"], line["metric"]) for line in logs] == [
        ("series_left_out", "night", "nexus_night_hoots")
    ]


def of_models(count, type_="counter"):
    samples = tuple(Sample(1, {"model": f"m{number}"}) for number in range(count))
    return Measure(name="nexus_night_hoots", documentation="Hoots.", type=type_, samples=samples)


def test_a_counter_with_too_many_series_has_the_rest_summed_up():
    with capture_logs() as logs:
        values = told(pipeline_of(Telling("night", of_models(MAX_SAMPLES + 7))))

    hoots = {key[1]: value for key, value in values.items() if key[0] == "nexus_night_hoots_total"}
    assert (len(hoots), hoots["other"]) == (MAX_SAMPLES + 1, 7)
    assert values["nexus_plugin_series_left_out", "nexus_night_hoots", "too_many"] == 7
    assert [(line["reason"], line["count"]) for line in logs] == [("too_many", 7)]


def test_a_gauge_with_too_many_series_has_the_rest_left_out():
    with capture_logs():
        values = told(pipeline_of(Telling("night", of_models(MAX_SAMPLES + 7, "gauge"))))

    assert len([key for key in values if key[0] == "nexus_night_hoots"]) == MAX_SAMPLES
    assert ("nexus_night_hoots", "other") not in values


def test_measures_before_a_generator_failed_are_exported():
    with capture_logs():
        values = told(pipeline_of(Telling("night", owls(), ValueError("no more"))))

    assert values["nexus_night_owls",] == 3


def test_a_reload_resets_no_counter_of_a_stage():
    hoots = owls("nexus_night_hoots", value=5, type_="counter")
    before, empty = pipeline_of(Telling("night", hoots)), pipeline_of(Telling("night"))
    pipelines = [before]
    metrics = StageMetrics(lambda: pipelines[-1], lambda: (), ())
    told_by(metrics)

    metrics.follow(before, empty)
    pipelines.append(empty)
    assert told_by(metrics)["nexus_night_hoots_total",] == 5

    again = pipeline_of(Telling("night", hoots))
    metrics.follow(empty, again)
    pipelines.append(again)
    assert told_by(metrics)["nexus_night_hoots_total",] == 10


def test_a_reload_in_the_middle_of_a_scrape_resets_and_doubles_no_counter():
    hoots = [owls(f"nexus_night_{name}", value=5, type_="counter") for name in ("hoots", "calls")]
    before, after = pipeline_of(Telling("night", *hoots)), pipeline_of(Telling("night"))
    pipelines = [before]
    metrics = StageMetrics(lambda: pipelines[-1], lambda: (), ())
    scrape = metrics.families()
    while next(scrape).name != "nexus_night_hoots":
        pass

    metrics.follow(before, after)
    pipelines.append(after)

    assert list(scrape) == []
    values = told_by(metrics)
    assert (values["nexus_night_hoots_total",], values["nexus_night_calls_total",]) == (5, 5)


def test_metrics_of_a_removed_plugin_are_gone():
    before, after = pipeline_of(Telling("night", owls("nexus_night_hoots", type_="counter"))), pipeline_of()
    metrics = StageMetrics(lambda: after, lambda: (), ())

    metrics.follow(before, after)

    assert ("nexus_night_hoots_total",) not in told_by(metrics)


@pytest.mark.parametrize(
    ("plugin", "name"),
    [
        ("reconciler", "nexus_reconciler_failures"),
        ("queue", "nexus_queue_depth"),
        ("pipeline", "nexus_pipeline_duration_seconds_sum"),
    ],
)
def test_no_plugin_takes_the_name_of_a_metric_of_the_core(plugin, name):
    with capture_logs() as logs:
        told(pipeline_of(Telling(plugin, owls(name))))

    assert [line["event"] for line in logs] == ["stage_not_measured"]


@pytest.mark.parametrize("second", ["nexus_night_shift_owls", "nexus_night_shift_owls_total"])
def test_two_plugins_cannot_break_the_page_together(second):
    first = Telling("night", owls("nexus_night_shift_owls", type_="counter"))

    with capture_logs() as logs:
        told(pipeline_of(first, Telling("night-shift", owls(second))))

    assert [(line["event"], line["stage"]) for line in logs] == [("stage_not_measured", "night-shift")]


def test_a_stage_that_must_not_be_skipped_may_fail_at_its_measures():
    stage = Telling("night", ValueError())
    stage.on_error = "reject"
    pipeline = pipeline_of(stage)

    with capture_logs():
        told(pipeline)
    try:
        pipeline.run(make_intent())
    except StageFailed:
        pytest.fail("its measures are no part of a request")
