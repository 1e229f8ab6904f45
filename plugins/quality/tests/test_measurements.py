"""Only backends of the fleet are measured, and a bounded number of models."""

import pytest
import structlog

from nexus.testing.builders import MODEL, make_backend, make_fleet
from nexus_quality.config import QualityConfig
from nexus_quality.measurements import Measurements

DAY_S = 86_400


def test_a_backend_that_left_the_fleet_is_forgotten(scene):
    it = scene()
    it.record("gpu-1")
    it.record("gpu-2")
    del it.backends["gpu-1"]

    it.judge()

    assert [track.backend for track in it.measurements.recent()] == ["gpu-2"]


def test_what_was_under_way_does_not_bring_it_back(scene):
    it = scene()
    del it.backends["gpu-1"]
    it.judge()

    it.record("gpu-1")

    assert it.track("gpu-1") is None


def test_another_server_under_an_old_name_begins_anew(scene):
    it = scene()
    it.fail("gpu-1", times=20)
    it.backends["gpu-1"] = make_backend("gpu-1", url="http://elsewhere:8000")

    assert it.judge().avoided == set()


def test_other_changes_of_the_fleet_forget_no_backend(scene):
    it = scene()
    it.fail("gpu-1", times=20)
    it.backends["gpu-3"] = make_backend("gpu-3")

    assert it.judge().avoided == {"gpu-1"}


def test_a_backend_not_asked_for_a_day_is_forgotten(scene, clock):
    it = scene()
    it.record("gpu-1")
    clock.advance(DAY_S / 2)
    it.record("gpu-2")
    clock.advance(DAY_S / 2 + 1)

    assert [track.backend for track in it.measurements.recent()] == ["gpu-2"]


def test_beyond_the_bound_the_least_recently_recorded_is_forgotten(clock, make_attempt, make_outcome):
    measurements = Measurements(clock, max_tracked=2)
    measurements.follow(make_fleet(make_backend()))
    for model in ("a", "b", "a", "c"):
        measurements.record(make_outcome(make_attempt(model=model)), QualityConfig())

    assert [track.model for track in measurements.recent()] == ["a", "c"]


def test_nothing_is_recorded_before_the_first_snapshot(measurements, make_attempt, make_outcome):
    measurements.record(make_outcome(make_attempt()), QualityConfig())

    assert measurements.recent() == []


@pytest.mark.parametrize("attempts", [0, 1])
def test_an_exchange_without_an_attempt_is_nothing_to_learn_from(scene, make_attempt, make_outcome, attempts):
    it = scene()

    it.measurements.record(make_outcome(*[make_attempt()] * attempts), it.config)

    assert len(it.measurements.recent()) == attempts


def test_a_change_is_logged_once_in_each_direction(scene, clock):
    it = scene()
    with structlog.testing.capture_logs() as lines:
        it.fail("gpu-1", times=15)
        clock.advance(61)
        it.record("gpu-1", times=6)

    assert lines == [
        {
            "event": "quality_poor",
            "log_level": "warning",
            "backend": "gpu-1",
            "model": MODEL,
            "error_rate_1h": 1.0,
            "avg_ttft_ms": None,
            "request_count_1h": 10,
        },
        {
            "event": "quality_recovered",
            "log_level": "info",
            "backend": "gpu-1",
            "model": MODEL,
            "error_rate_1h": 0.75,
            "avg_ttft_ms": None,
            "request_count_1h": 20,
        },
    ]


def test_a_backend_near_the_limit_does_not_fill_the_log(scene):
    it = scene()
    it.record("gpu-1", times=10)
    with structlog.testing.capture_logs() as lines:
        for _ in range(100):
            it.fail("gpu-1", times=2)
            it.record("gpu-1", times=2)

    assert len(lines) <= 1
