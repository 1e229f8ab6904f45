"""A worker that ends is started again, at once at first and then less and less often."""

from hypothesis import given
from hypothesis import strategies as st

from nexus.app.workers.restarts import MAX_DELAY_S, MAX_FAILED_STARTS, STABLE_S, FailedStarts, Restarts


def test_the_first_restart_is_at_once_and_each_further_one_later():
    restarts = Restarts()

    assert [restarts.delay_s(1.0) for _ in range(8)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_worker_that_served_for_long_begins_anew():
    restarts = Restarts()
    for _ in range(5):
        restarts.delay_s(0.0)

    assert [restarts.delay_s(STABLE_S), restarts.delay_s(1.0)] == [0.0, 0.5]


@given(st.lists(st.floats(0, STABLE_S, exclude_max=True), max_size=3000))
def test_delays_never_shrink_and_are_bounded(served):
    restarts = Restarts()

    delays = [restarts.delay_s(each) for each in served]

    assert delays == sorted(delays)
    assert all(delay <= MAX_DELAY_S for delay in delays)


@given(st.lists(st.sampled_from(["ready", "failed beside others", "failed alone"]), max_size=30))
def test_the_proxy_gives_up_only_after_failed_starts_in_a_row_while_none_serves(events):
    starts = FailedStarts()
    in_a_row = 0

    for event in events:
        if event == "ready":
            starts.note_ready()
            in_a_row = 0
        else:
            does_any_serve = event == "failed beside others"
            in_a_row = 0 if does_any_serve else in_a_row + 1
            assert starts.is_hopeless(does_any_serve=does_any_serve) == (in_a_row >= MAX_FAILED_STARTS)
