"""The search for the highest rate of requests that is answered in time."""

import pytest
from comparing.costs import MAX_P99_MS, SEARCH_FROM, SEARCH_STEPS, Costs, rate_in_time
from comparing.loads import Result, Times
from comparing.starting import Upstream


class FakeGenerator:
    """Answers in time up to a rate, and too late beyond it."""

    def __init__(self, capacity, *, failed=0):
        self.capacity = capacity
        self.failed = failed
        self.rates = []

    def put(self, load, port, headers):
        self.rates.append(load.rate)
        late = load.rate > self.capacity
        return Result(
            requests=100,
            failed=self.failed,
            events=0,
            seconds=1.0,
            total=Times(p50=1.0, p99=MAX_P99_MS + 1 if late else 1.0),
            first_event=None,
            event_delay=None,
        )


def found(generator, closed_rate=1000.0):
    return rate_in_time(Costs(Upstream(1), generator, settle_s=0.0), closed_rate, seconds=0.1)


@pytest.mark.parametrize("capacity", [250.0, 500.0, 777.0, 990.0])
def test_the_rate_is_found_to_a_twentieth_in_a_bounded_number_of_steps(capacity):
    generator = FakeGenerator(capacity)

    rate = found(generator)

    assert capacity - 50 <= rate <= capacity
    assert len(generator.rates) == SEARCH_STEPS


def test_a_proxy_that_is_late_with_little_to_do_gets_nothing():
    generator = FakeGenerator(1000 * SEARCH_FROM - 1)

    assert found(generator) == 0.0
    assert len(generator.rates) == 1


def test_a_rate_with_failures_does_not_count():
    assert found(FakeGenerator(1000.0, failed=1)) == 0.0
