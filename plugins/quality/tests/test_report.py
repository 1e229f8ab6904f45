"""Page, metrics and explanation tell the same figures."""

import msgspec

from nexus.testing.builders import MODEL, make_backend
from nexus_quality.report import quality_page

FIGURES = {
    "backend": "gpu-1",
    "model": MODEL,
    "error_rate_1h": 0.75,
    "success_rate_24h": 0.25,
    "avg_ttft_ms": 250,
    "ttft_ema_ms": 250,
    "request_count_1h": 20,
    "last_failure": "2023-11-14T22:13:20Z",
    "is_avoided": True,
    "is_slow": False,
    "is_on_trial": False,
}
LIMITS = {
    "error_rate_threshold": 0.5,
    "min_samples": 10,
    "ttft_penalty_threshold_ms": 3000,
    "trial_interval_seconds": 30.0,
    "trial_successes": 5,
}


def mixed(it):
    it.stream("gpu-1", 0.25, times=5)
    it.fail("gpu-1", times=15)
    return it


def test_the_page_lists_each_model_on_each_backend(scene):
    it = mixed(scene())
    it.record("gpu-2")

    status, content_type, body = quality_page(it.measurements, it.config)

    page = msgspec.json.decode(body)
    assert (status, content_type, page["limits"]) == (200, "application/json", LIMITS)
    assert page["models"][0] == FIGURES
    assert [row["backend"] for row in page["models"]] == ["gpu-1", "gpu-2"]


def test_an_explanation_shows_the_candidates_of_which_something_is_known(scene):
    it = mixed(scene("gpu-1", "gpu-2"))

    assert it.stage.explain(it.intent()) == {"limits": LIMITS, "candidates": [FIGURES]}


def test_in_a_large_fleet_it_shows_the_poor_ones_first_and_not_all(scene):
    it = scene(*(f"gpu-{number:03}" for number in range(100)))
    for name in it.backends:
        it.record(name)
    it.fail("gpu-099", times=20)

    candidates = it.stage.explain(it.intent())["candidates"]

    assert candidates[0]["backend"] == "gpu-099"
    assert len(candidates) < 50


def test_every_metric_is_labelled_with_backend_and_model(scene):
    it = mixed(scene())

    measures = {measure.name: measure for measure in it.stage.measures()}

    (sample,) = measures["nexus_quality_error_rate_1h"].samples
    assert (sample.value, sample.labels) == (0.75, {"backend": "gpu-1", "model": MODEL})
    values = {name: measure.samples[0].value for name, measure in measures.items()}
    assert values == {
        "nexus_quality_error_rate_1h": 0.75,
        "nexus_quality_success_rate_24h": 0.25,
        "nexus_quality_request_count_1h": 20,
        "nexus_quality_ttft_seconds": 0.25,
        "nexus_quality_ttft_ema_seconds": 0.25,
        "nexus_quality_avoided": 1,
        "nexus_quality_slow": 0,
        "nexus_quality_failures": 15,
        "nexus_quality_trials": 0,
    }


def test_without_a_bad_answer_in_the_last_hour_only_the_counters_remain(scene, clock):
    it = mixed(scene("gpu-1", "gpu-2", "gpu-3"))
    it.record("gpu-2", times=20)
    during = {measure.name: len(measure.samples) for measure in it.stage.measures()}
    clock.advance(3_600)
    it.record("gpu-1")
    it.record("gpu-1")

    assert set(during.values()) == {1}
    assert {measure.name for measure in it.stage.measures() if measure.samples} == {
        "nexus_quality_failures",
        "nexus_quality_trials",
    }


def test_what_was_not_measured_has_no_sample(scene):
    it = scene()
    it.fail("gpu-1")

    measures = {measure.name: measure.samples for measure in it.stage.measures()}

    assert measures["nexus_quality_ttft_seconds"] == ()


def test_no_metric_names_what_is_not_in_the_fleet(scene):
    it = mixed(scene())
    it.backends = {"gpu-9": make_backend("gpu-9")}
    it.judge()

    assert {measure.samples for measure in it.stage.measures()} == {()}


def test_a_backend_s_row_has_the_figures_of_all_its_models_together(scene):
    it = scene()
    it.fail("gpu-1")
    it.record("gpu-1", model="qwen3", is_stream=True, first_byte_s=0.2)
    it.record("gpu-1", model="qwen3", is_stream=True, first_byte_s=0.4)

    rows = it.stage.report()["backends"]

    assert rows == {
        "gpu-1": {"error_rate_1h": 0.3333, "success_rate_24h": 0.6667, "request_count_1h": 3, "avg_ttft_ms": 300}
    }


def test_a_row_says_nothing_of_what_is_long_past(scene, clock):
    it = scene()
    it.record("gpu-1")

    clock.advance(2 * 86_400)

    assert it.stage.report() == {"backends": {}}


def test_a_backend_that_left_the_fleet_has_no_row(scene):
    it = scene()
    it.record("gpu-1")
    del it.backends["gpu-1"]

    it.judge()

    assert it.stage.report() == {"backends": {}}
