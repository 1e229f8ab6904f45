"""Failing backends are avoided, slow ones weighed down, and backends with few samples left alone."""

import pytest

HOUR_S = 3600


def test_no_backend_is_judged_without_history(scene):
    verdicts = scene().judge()

    assert (verdicts.avoided, verdicts.weights) == (set(), {})


def test_a_backend_above_the_error_rate_is_avoided(scene):
    it = scene()
    it.record("gpu-1", times=4)
    it.fail("gpu-1", times=8)

    verdicts = it.judge()

    assert verdicts.avoided == {"gpu-1"}
    assert "Error rate 66.7% exceeds threshold 50.0%" in verdicts.reasons


def test_a_backend_at_the_error_rate_is_not_avoided(scene):
    it = scene()
    it.record("gpu-1", times=10)
    it.fail("gpu-1", times=10)

    assert it.judge().avoided == set()


def test_few_samples_prove_nothing(scene):
    it = scene()
    it.fail("gpu-1", times=9)
    before = it.judge().avoided
    it.fail("gpu-1")

    assert (before, it.judge().avoided) == (set(), {"gpu-1"})


def test_how_many_are_enough_is_configured(scene):
    it = scene(min_samples=2)
    it.fail("gpu-1", times=2)

    assert it.judge().avoided == {"gpu-1"}


def test_a_threshold_of_one_avoids_no_backend(scene):
    it = scene(error_rate_threshold=1.0)
    it.fail("gpu-1", times=50)

    assert it.judge().avoided == set()


def test_many_bad_requests_count_against_no_backend(scene):
    it = scene()
    for status in (400, 401, 403, 404, 422, 429):
        it.record("gpu-1", times=100, status=status)

    assert it.judge().avoided == set()


def test_only_the_model_that_fails_is_avoided(scene):
    it = scene()
    it.record("gpu-1", times=20, status=500, model="another")

    assert it.judge().avoided == set()


def test_when_all_are_bad_all_are_kept_and_the_least_bad_is_preferred(scene):
    it = scene()
    it.fail("gpu-1", times=20)
    it.record("gpu-2", times=5)
    it.fail("gpu-2", times=15)

    verdicts = it.judge()

    assert verdicts.avoided == {"gpu-1", "gpu-2"}
    assert verdicts.weights == {"gpu-1": 0.0, "gpu-2": 0.25}


def test_after_an_hour_without_failures_it_is_as_good_as_new(scene, clock):
    it = scene()
    it.fail("gpu-1", times=20)
    clock.advance(HOUR_S)

    assert it.judge().avoided == set()


def test_successes_that_grow_old_let_failures_weigh_more(scene, clock):
    it = scene()
    it.record("gpu-1", times=30)
    clock.advance(HOUR_S / 2)
    it.fail("gpu-1", times=20)
    before = it.figures("gpu-1").is_avoided
    clock.advance(HOUR_S / 2)

    assert (before, it.figures("gpu-1").is_avoided) == (False, True)


@pytest.mark.parametrize(
    ("seconds", "factor"), [(0.5, None), (1.0, None), (1.25, 0.75), (1.5, 0.5), (2.0, 0.0), (60.0, 0.0)]
)
def test_a_slow_backend_is_weighed_down_in_proportion(scene, seconds, factor):
    it = scene(ttft_penalty_threshold_ms=1000)
    it.stream("gpu-1", seconds, times=10)

    verdicts = it.judge()

    assert verdicts.weights == ({} if factor is None else {"gpu-1": pytest.approx(factor)})
    assert verdicts.avoided == set()


def test_the_reason_says_how_late(scene):
    it = scene(ttft_penalty_threshold_ms=1000)
    it.stream("gpu-1", 1.5, times=10)

    assert it.judge().reasons == ["Time to first token 1500 ms exceeds 1000 ms"]


def test_one_model_load_makes_no_backend_slow(scene):
    it = scene()
    it.stream("gpu-1", 100.0)
    it.record("gpu-1", times=50)

    assert it.judge().weights == {}


def test_long_answers_in_one_piece_make_no_backend_slow(scene):
    it = scene()
    it.record("gpu-1", times=50, first_byte_s=100.0, duration_s=100.0)

    assert it.judge().weights == {}


def test_a_new_configuration_judges_old_measurements_anew(scene):
    lenient = scene()
    lenient.record("gpu-1", times=8)
    lenient.fail("gpu-1", times=4)
    before = lenient.judge().avoided

    strict = scene(error_rate_threshold=0.2)

    assert (before, strict.judge().avoided, lenient.judge().avoided) == (set(), {"gpu-1"}, set())


def test_failures_that_remain_when_good_answers_have_left_the_hour_are_judged(scene, clock):
    it = scene(trial_interval_seconds=HOUR_S)
    it.record("gpu-1", times=20)
    clock.advance(HOUR_S / 2)
    it.fail("gpu-1", times=10)
    before = it.judge().avoided
    clock.advance(HOUR_S / 2)

    assert (before, it.judge().avoided) == (set(), {"gpu-1"})


def test_a_lower_limit_of_a_reload_applies_to_answers_of_before(scene):
    it = scene(ttft_penalty_threshold_ms=1000)
    it.stream("gpu-1", 0.9, times=10)
    before = it.judge().weights

    it.reload(ttft_penalty_threshold_ms=500)
    it.reserve("gpu-1")

    assert (before, it.judge().weights) == ({}, {"gpu-1": pytest.approx(0.2)})


def test_without_a_bad_answer_within_the_hour_no_backend_is_looked_at(scene, clock):
    it = scene()
    it.record("gpu-2", times=5)
    it.fail("gpu-1")
    during = len(it.measurements.suspects)
    clock.advance(HOUR_S)
    it.judge()

    assert (during, len(it.measurements.suspects)) == (1, 0)
