"""Whether a promise of the benchmark is kept, missed or broken."""

import pytest
from comparing.figures import Figure, Measured
from comparing.proxies import NEXUS
from comparing.thresholds import THRESHOLDS, Limit, judge


def measured(name, figure, values):
    return Measured(name, "", [{figure: value} for value in values])


def verdict_of(figure, nexus, **neighbours):
    all_measured = {name: measured(name, figure, values) for name, values in {NEXUS: nexus, **neighbours}.items()}
    return next(pair for pair in judge(all_measured) if pair[0].figure is figure)


def test_a_ratio_below_its_limit_is_kept():
    limit, _ = verdict_of(Figure.CPU_PER_REQUEST, [120, 130, 125], **{"vllm-router": [100, 100, 100]})

    assert limit.is_kept
    assert limit.text == "1.25 x, 1.20 to 1.30: kept"


def test_a_ratio_that_is_over_its_limit_in_every_round_is_broken():
    limit, _ = verdict_of(Figure.CPU_PER_REQUEST, [140, 150, 160], **{"vllm-router": [100, 100, 100]})

    assert limit.is_broken
    assert limit.text == "1.50 x, 1.40 to 1.60: broken"


def test_a_ratio_whose_rounds_are_on_both_sides_of_the_limit_is_not_broken():
    limit, _ = verdict_of(Figure.CPU_PER_REQUEST, [120, 140, 160], **{"vllm-router": [100, 100, 100]})

    assert not limit.is_kept
    assert not limit.is_broken
    assert "within the spread" in limit.text


def test_a_ratio_is_of_the_same_round():
    limit, _ = verdict_of(Figure.CPU_PER_REQUEST, [100, 1000], **{"vllm-router": [100, 1000]})

    assert limit.text == "1.00 x: kept"


def test_a_neighbour_that_is_absent_breaks_nothing():
    limit, goal = verdict_of(Figure.CPU_PER_REQUEST, [1e9])

    assert limit.text == "not measured"
    assert not limit.is_broken
    assert goal.found is None


def test_a_goal_may_be_against_another_neighbour_than_the_limit():
    limit, goal = verdict_of(Figure.DELAY_P99, [10, 10, 10], **{"vllm-router": [10, 10, 10], "nginx": [1, 1, 1]})

    assert limit.is_kept
    assert not goal.is_kept


def test_every_single_failure_counts():
    limit, _ = verdict_of(Figure.FAILED, [0, 0, 1, 0, 0])

    assert limit.is_broken


@pytest.mark.parametrize("threshold", [it for it in THRESHOLDS if it.goal], ids=lambda it: it.figure.name)
def test_a_goal_is_beyond_its_limit(threshold):
    if threshold.goal.against == threshold.limit.against:
        assert threshold.goal.value < threshold.limit.value


def test_a_limit_says_of_what_it_is():
    assert Limit(1.3, "nginx").text == "at most 1.3 x nginx's"
    assert Limit(60.0).text == "at most 60"
