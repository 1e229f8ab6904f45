"""Reports are read often only while requests run, and never too often."""

import pytest

from nexus.fleet.loads.timing import ACTIVE_S, Activity, interval_s, jittered_s


def test_a_backend_is_active_for_a_while_after_its_last_request():
    activity = Activity()

    assert activity.is_active(100.0, in_flight=1, requests_total=0)
    assert activity.is_active(100.0 + ACTIVE_S - 0.1, in_flight=0, requests_total=0)
    assert not activity.is_active(100.0 + ACTIVE_S, in_flight=0, requests_total=0)


def test_a_request_that_came_and_went_between_two_looks_is_noticed():
    activity = Activity()
    activity.is_active(100.0, in_flight=0, requests_total=0)

    assert activity.is_active(102.0, in_flight=0, requests_total=1)


@pytest.mark.parametrize(
    ("configured_s", "least_s", "active", "interval"), [(2.0, 0.0, 3, 2.0), (2.0, 5.0, 3, 5.0), (2.0, 5.0, 500, 10.0)]
)
def test_the_longest_of_all_intervals_applies(configured_s, least_s, active, interval):
    assert interval_s(configured_s, least_s, active) == interval


def test_chance_only_shortens_an_interval():
    assert (jittered_s(2.0, 0.0), jittered_s(2.0, 1.0)) == (2.0, pytest.approx(1.8))
