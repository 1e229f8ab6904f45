"""The figures: over an hour, over a day, and as a moving average."""

from datetime import UTC, datetime

import pytest

HOUR_S = 3600
MINUTE_S = 60


def test_the_error_rate_is_of_the_last_hour(scene):
    it = scene()
    it.record("gpu-1", times=3)
    it.fail("gpu-1")

    figures = it.figures("gpu-1")

    assert (figures.error_rate_1h, figures.request_count_1h) == (0.25, 4)


def test_after_an_hour_it_is_forgotten(scene, clock):
    it = scene()
    it.fail("gpu-1", times=4)
    clock.advance(HOUR_S)

    figures = it.figures("gpu-1")

    assert (figures.error_rate_1h, figures.request_count_1h) == (0.0, 0)


def test_the_success_rate_is_of_the_last_day(scene, clock):
    it = scene()
    it.record("gpu-1", times=3)
    it.fail("gpu-1")
    clock.advance(23 * HOUR_S)
    within = it.figures("gpu-1").success_rate_24h
    clock.advance(HOUR_S)

    assert (within, it.figures("gpu-1").success_rate_24h) == (0.75, 1.0)


def test_the_latest_failure_is_told_for_a_day(scene, clock, make_attempt, make_outcome):
    it = scene()
    failed = make_attempt(status=503)
    it.measurements.record(make_outcome(failed, received_at=1_700_000_000.0, duration_s=2.0), it.config)
    told = it.figures("gpu-1").last_failure
    clock.advance(24 * HOUR_S)

    assert told == datetime(2023, 11, 14, 22, 13, 22, tzinfo=UTC)
    assert it.figures("gpu-1").last_failure is None


def test_without_a_stream_there_is_no_time_to_first_token(scene):
    it = scene()
    it.record("gpu-1", times=3, first_byte_s=9.0)

    assert (it.figures("gpu-1").avg_ttft_ms, it.figures("gpu-1").ttft_ema_ms) == (None, None)


def test_the_mean_time_to_first_token_is_whole_milliseconds_of_the_last_hour(scene, clock):
    it = scene()
    it.stream("gpu-1", 9.0)
    clock.advance(HOUR_S)
    it.stream("gpu-1", 0.100)
    it.stream("gpu-1", 0.101)

    assert it.figures("gpu-1").avg_ttft_ms == 100


def test_the_moving_average_follows_the_newest_by_a_fifth(scene):
    it = scene()
    for seconds in (1.0, 2.0, 2.0):
        it.stream("gpu-1", seconds)

    assert it.figures("gpu-1").ttft_ema_ms == 1360


@pytest.mark.parametrize("fields", [{"status": 404}, {"status": 429}, {"ending": "client_left", "status": None}])
def test_an_outcome_that_proves_nothing_is_not_recorded(scene, fields):
    it = scene()
    it.record("gpu-1", **fields)

    assert it.track("gpu-1") is None


def test_a_client_that_left_after_the_first_token_counts_for_that_alone(scene):
    it = scene()
    it.record("gpu-1", ending="client_left", is_stream=True, first_byte_s=0.5)

    figures = it.figures("gpu-1")

    assert (figures.avg_ttft_ms, figures.request_count_1h) == (500, 0)


def test_every_attempt_of_an_exchange_counts(scene, make_attempt, make_outcome):
    it = scene()
    tried = make_attempt("gpu-1", status=503), make_attempt("gpu-2")

    it.measurements.record(make_outcome(*tried), it.config)

    assert (it.figures("gpu-1").error_rate_1h, it.figures("gpu-2").error_rate_1h) == (1.0, 0.0)


def test_each_model_of_a_backend_has_figures_of_its_own(scene):
    it = scene()
    it.record("gpu-1", status=500)
    it.record("gpu-1", model="another")

    assert it.figures("gpu-1").error_rate_1h == 1.0
    assert it.measurements.tracks["gpu-1", "another"].figures(it.clock(), it.config).error_rate_1h == 0.0
