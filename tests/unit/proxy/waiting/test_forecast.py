"""The expected wait follows from the rate at which backends have taken requests while some waited."""

import pytest

from nexus.proxy.waiting.forecast import MAX_RETRY_AFTER_S, Forecast, queue_full, queue_timeout
from nexus.proxy.waiting.service_rate import AGE_S, ServiceRate


def served(rate, times):
    for at in times:
        rate.note(at)


def test_until_it_is_measured_a_backend_takes_one_request_per_second():
    rate = ServiceRate()

    assert (rate.per_second(100.0), rate.is_measured) == (1.0, False)


def test_a_steady_rate_is_found():
    rate = ServiceRate()
    rate.resume(0.0)

    served(rate, (number / 4 for number in range(1, 200)))

    assert rate.per_second(50.0) == pytest.approx(4.0, rel=0.05)


def test_a_backend_that_takes_no_more_becomes_slower():
    rate = ServiceRate()
    rate.resume(0.0)
    served(rate, range(1, 60))
    before = rate.per_second(60.0)

    after = rate.per_second(60.0 + AGE_S)

    assert after < before / 2


def test_the_time_in_which_nothing_waits_does_not_count():
    rate = ServiceRate()
    rate.resume(0.0)
    served(rate, range(1, 60))
    rate.pause(60.0)
    before = rate.per_second(60.0)

    rate.resume(10_000.0)

    assert rate.per_second(10_000.0) == before


@pytest.mark.parametrize(("expected_s", "retry_after_s"), [(0.0, 1), (1.4, 1), (7.6, 8), (1e9, MAX_RETRY_AFTER_S)])
def test_retry_after_is_the_expected_wait_within_bounds(expected_s, retry_after_s):
    assert Forecast(3, expected_s, is_measured=True).retry_after_s == retry_after_s


def test_the_errors_say_how_long_the_wait_would_be():
    full = queue_full("the queue is full", Forecast(1, 2.5, is_measured=False), waiting=9)
    late = queue_timeout(5.0, "queue.max_wait_seconds", Forecast(3, 2.0, is_measured=True), waiting=9)

    assert full.message == (
        "every backend is at its limit and the queue is full; about 1 request comes before it, and it would wait for"
        " about 2.5 s, if each backend takes one per second"
    )
    assert late.message == (
        "no slot became free within 5 s (queue.max_wait_seconds); about 3 requests come before it,"
        " and it would wait for about 2 s"
    )
    assert late.context == {
        "queue": {
            "waiting": 9,
            "position": 4,
            "expected_wait_s": 2.0,
            "is_measured": True,
            "waited_s": 5.0,
            "limited_by": "queue.max_wait_seconds",
        }
    }
    assert "; no request comes before it" in queue_timeout(5, "x", Forecast(0, 1, is_measured=True), waiting=1).message
    assert (full.code, late.code) == ("queue_full", "queue_timeout")
