from nexus.domain.backend import Breaker
from nexus.fleet.health.breaker import BreakerState


def failed(times, state=None):
    state = state or BreakerState()
    for _ in range(times):
        state = state.after_failure()
    return state


def test_three_failures_in_a_row_open_it():
    assert failed(2).breaker is Breaker.CLOSED
    assert failed(3).breaker is Breaker.OPEN


def test_a_success_between_them_starts_the_count_anew():
    assert failed(2, failed(2).after_success()).breaker is Breaker.CLOSED


def test_one_failure_reopens_a_half_open_one_and_one_success_closes_it():
    half_open = failed(3).after_pause()

    assert half_open.breaker is Breaker.HALF_OPEN
    assert half_open.after_failure().breaker is Breaker.OPEN
    assert half_open.after_success() == BreakerState()


def test_failures_of_requests_that_were_under_way_do_not_count_while_it_is_open():
    assert failed(9) == failed(3)


def test_the_pause_doubles_up_to_its_limit():
    state = failed(3)
    pauses = []

    for _ in range(7):
        pauses.append(state.pause_s(0.5))
        state = state.after_pause().after_failure()

    assert pauses == [5, 10, 20, 40, 80, 120, 120]


def test_chance_moves_the_pause_by_half_to_either_side():
    state = failed(3)

    assert state.pause_s(0.0) == 2.5
    assert state.pause_s(0.999999) > 7.49
