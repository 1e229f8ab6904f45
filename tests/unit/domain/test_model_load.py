import pytest

from nexus.domain.model_load import FAILURE_HALF_LIFE_S, HALF_LIFE_S, MAX_WEIGHT, ModelLoad, Pace


def measured(*seconds, now=100.0):
    pace = Pace()
    for second in seconds:
        pace.observe(second, now)
    return pace


def test_the_mean_of_equal_measurements_is_each_of_them():
    assert measured(0.2, 0.2, 0.2).mean_ms() == 200


def test_one_slow_answer_among_many_hardly_moves_the_mean():
    assert measured(*[0.1] * 16, 60.0).mean_ms() < 120


def test_a_lasting_change_moves_the_mean():
    assert measured(*[0.1] * 16, *[1.0] * 40).mean_ms() > 800


def test_a_measurement_counts_half_as_much_after_its_half_life():
    pace = measured(0.5, 0.5)

    assert pace.aged(100.0 + HALF_LIFE_S)[0] == pytest.approx(1.0)


def test_the_weight_of_measurements_is_bounded():
    assert measured(*[0.1] * 1000).weight == pytest.approx(MAX_WEIGHT)


def test_an_answer_in_no_time_is_one():
    assert measured(0.0).mean_ms() == 1


def test_failures_fade():
    figures = ModelLoad()

    figures.fail(10.0)
    figures.fail(10.0)

    assert figures.recent_failures(10.0) == 2
    assert figures.recent_failures(10.0 + FAILURE_HALF_LIFE_S) == pytest.approx(1.0)
    assert figures.recent_failures(10.0 + 2 * FAILURE_HALF_LIFE_S) == 0
