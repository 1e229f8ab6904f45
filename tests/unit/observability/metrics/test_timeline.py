"""Every exchange is counted in the step in which it ends, and memory does not grow with traffic."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.domain.outcome import Ending
from nexus.domain.request import TokenUsage
from nexus.observability.metrics.timeline import (
    HOUR_STEPS,
    MAX_SAMPLES,
    STEP_S,
    Figures,
    RecentSums,
    Steps,
    Timeline,
    figures_of,
)
from nexus.testing.builders import make_attempt, make_outcome
from tests.support.fakes import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def timeline(clock):
    return Timeline(clock=clock)


def attempt(backend="gpu-1", *, tokens=40, **fields):
    usage = None if tokens is None else TokenUsage(10, tokens)
    return make_attempt(
        backend, **{"is_stream": True, "first_byte_s": 0.5, "duration_s": 2.5, "usage": usage, **fields}
    )


def outcome(*attempts, **fields):
    return make_outcome(*(attempts or (attempt(),)), **fields)


def test_an_exchange_is_counted_in_the_current_step(timeline, clock):
    timeline.observe(outcome())
    clock.now = STEP_S * 2
    timeline.observe(outcome(status=502))

    points = timeline.hour(1000.0).points

    assert [(p.requests, p.errors, p.tokens) for p in points] == [(1, 0, 40), (0, 0, 0), (1, 1, 40)]


def test_only_failures_that_the_client_did_not_cause_are_errors(timeline):
    broke = outcome(attempt(ending=Ending.BACKEND_FAILED), code="stream_truncated")
    for each in (broke, outcome(attempt(ending=Ending.CLIENT_LEFT)), outcome(status=404), make_outcome()):
        timeline.observe(each)

    point = timeline.hour(0.0).points[-1]

    assert (broke.status, point.requests, point.errors) == (200, 4, 2)


def test_the_last_step_begins_where_the_clock_says(timeline, clock):
    clock.now = STEP_S * 3 + 4

    assert timeline.hour(1004.0).until_unix_s == 1000


def test_an_hour_is_all_that_is_kept(timeline, clock):
    timeline.observe(outcome())
    clock.now = STEP_S * HOUR_STEPS * 10
    timeline.observe(outcome())

    points = timeline.hour(0.0).points

    assert len(points) == HOUR_STEPS
    assert sum(point.requests for point in points) == 1


def test_the_time_to_the_first_token_is_that_of_streams(timeline):
    for first_byte_s in (0.1, 0.2, 0.9):
        timeline.observe(outcome(attempt(first_byte_s=first_byte_s)))
    timeline.observe(outcome(attempt(first_byte_s=50.0), is_stream=False))

    point = timeline.hour(0.0).points[-1]

    assert (point.first_token_p50_s, point.first_token_p95_s) == (0.2, 0.9)


def test_spend_stays_until_it_is_recorded_again(timeline, clock):
    timeline.spent(1.5)
    clock.now = STEP_S * 2

    assert [point.spend_usd for point in timeline.hour(0.0).points] == [1.5, 1.5, 1.5]


def test_a_backend_has_figures_of_the_last_five_minutes(timeline, clock):
    timeline.observe(outcome(attempt("gpu-2", ending=Ending.BACKEND_FAILED, first_byte_s=None, tokens=None), attempt()))

    assert timeline.figures("gpu-1") == Figures(1, 0.0, 20.0, 0.5, 0.5)
    assert timeline.figures("gpu-2").error_rate == 1.0
    clock.now = 301.0
    assert timeline.figures("gpu-1") == Figures()


def test_a_backend_that_left_the_fleet_is_forgotten(timeline):
    timeline.observe(outcome())

    timeline.keep_only({"gpu-2"})

    assert timeline.figures("gpu-1") == Figures()


def test_a_copy_of_the_hour_does_not_change(timeline):
    before = timeline.hour(0.0)

    timeline.observe(outcome())

    assert before.points[-1].requests == 0


@given(st.lists(st.tuples(st.floats(0, 5000), st.integers(200, 599)), max_size=30))
def test_no_exchange_of_the_last_hour_is_lost_and_none_is_counted_twice(events):
    clock = FakeClock()
    timeline = Timeline(clock=clock)
    for waited_s, status in events:
        clock.now += waited_s
        timeline.observe(outcome(status=status))

    points = timeline.hour(0.0).points

    at, ends, last = 0.0, [], int(clock.now // STEP_S)
    for waited_s, _ in events:
        at += waited_s
        ends.append(int(at // STEP_S))
    assert sum(point.requests for point in points) == sum(step > last - HOUR_STEPS for step in ends)
    assert len(points) <= HOUR_STEPS


def test_samples_are_limited(timeline):
    for _ in range(MAX_SAMPLES * 3):
        timeline.observe(outcome())

    assert len(timeline._first_tokens) == MAX_SAMPLES


@given(
    st.data(), st.lists(st.tuples(st.integers(0, 3 * STEP_S), st.floats(0.01, 9), st.sampled_from("ab")), max_size=30)
)
def test_the_timelines_of_workers_add_up_to_that_of_one_process(data, streams):
    clock = FakeClock()
    alone, *apart = [Timeline(clock=clock) for _ in range(4)]
    for pause_s, first_s, backend in streams:
        clock.now += pause_s
        ended = outcome(
            attempt(backend, first_byte_s=first_s, duration_s=first_s + 1), is_stream=True, first_byte_s=first_s
        )
        alone.observe(ended)
        data.draw(st.sampled_from(apart)).observe(ended)
    alone.spent(1.5)
    apart[1].spent(1.5)

    sent = [encoded(timeline.steps(), Steps) for timeline in apart]
    recent = [encoded(timeline.recent(), dict[str, RecentSums]) for timeline in apart]

    # All have begun at the same time, and none of them before the first.
    assert apart[0].hour_of(1000.0, sent) == alone.hour(1000.0)
    for backend in "ab":
        together = figures_of([each[backend] for each in recent if backend in each])
        assert msgspec.structs.astuple(together) == pytest.approx(msgspec.structs.astuple(alone.figures(backend)))


def encoded(part, type_):
    return msgspec.msgpack.decode(msgspec.msgpack.encode(part), type=type_)
