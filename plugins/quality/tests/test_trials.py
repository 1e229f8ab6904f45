"""A backend with penalties gets one trial request at a time, and recovers after a few good answers in a row."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.api import Ending

INTERVAL_S = 30


@pytest.fixture
def broken(scene):
    """Give a scene in which gpu-1 has only failed."""
    it = scene()
    it.fail("gpu-1", times=20)
    return it


def test_right_after_a_failure_there_is_no_trial(broken):
    assert broken.reserve("gpu-1") is None
    assert broken.judge().avoided == {"gpu-1"}


def test_after_the_interval_one_request_may_try_it(broken, clock):
    clock.advance(INTERVAL_S)

    verdicts = broken.judge()

    assert (verdicts.avoided, verdicts.weights) == (set(), {})
    assert broken.reserve("gpu-1") is not None


def test_the_interval_is_configured(scene, clock):
    it = scene(trial_interval_seconds=5)
    it.fail("gpu-1", times=20)
    clock.advance(4.9)
    before = it.judge().avoided
    clock.advance(0.1)

    assert (before, it.judge().avoided) == ({"gpu-1"}, set())


def test_never_two_at_once(broken, clock):
    clock.advance(INTERVAL_S)
    broken.reserve("gpu-1")

    assert broken.judge().avoided == {"gpu-1"}
    assert broken.reserve("gpu-1") is None


def test_a_trial_that_fails_costs_another_interval(broken, clock, make_attempt):
    clock.advance(INTERVAL_S)
    broken.reserve("gpu-1").settle(make_attempt(status=503))
    broken.fail("gpu-1")
    soon = broken.judge().avoided
    clock.advance(INTERVAL_S)

    assert (soon, broken.judge().avoided) == ({"gpu-1"}, set())


def test_a_trial_that_went_well_asks_for_the_next_at_once(broken, clock, make_attempt):
    clock.advance(INTERVAL_S)
    broken.reserve("gpu-1").settle(make_attempt())
    broken.record("gpu-1")

    assert broken.judge().avoided == set()
    assert broken.reserve("gpu-1") is not None


def test_a_trial_whose_client_left_costs_another_interval(broken, clock, make_attempt):
    clock.advance(INTERVAL_S)

    broken.reserve("gpu-1").settle(make_attempt(ending=Ending.CLIENT_LEFT))

    assert broken.judge().avoided == {"gpu-1"}


def test_a_trial_that_was_never_sent_costs_nothing(broken, clock, make_attempt):
    clock.advance(INTERVAL_S)

    broken.reserve("gpu-1").settle(make_attempt(ending=Ending.REJECTED, status=None))

    assert broken.judge().avoided == set()


def test_a_few_good_answers_in_a_row_bring_it_back_though_its_hour_was_bad(broken):
    broken.record("gpu-1", times=4)
    before = broken.figures("gpu-1").is_avoided
    broken.record("gpu-1")

    after = broken.figures("gpu-1")
    assert (before, after.is_avoided, after.error_rate_1h) == (True, False, 0.8)


def test_one_failure_between_them_does_not(broken):
    broken.record("gpu-1", times=4)
    broken.fail("gpu-1")
    broken.record("gpu-1", times=4)

    assert broken.figures("gpu-1").is_avoided


def test_a_recovered_backend_needs_as_many_failures_as_a_new_one(broken):
    broken.record("gpu-1", times=5)
    broken.fail("gpu-1", times=9)
    before = broken.judge().avoided
    broken.fail("gpu-1")

    assert (before, broken.judge().avoided) == (set(), {"gpu-1"})


def test_an_hour_after_it_came_back_the_window_tells_again(broken, clock):
    broken.record("gpu-1", times=5)
    clock.advance(1800)
    broken.fail("gpu-1", times=9)
    clock.advance(1800)
    before = broken.judge().avoided
    broken.fail("gpu-1")

    assert (before, broken.judge().avoided) == (set(), {"gpu-1"})


def test_a_slow_backend_recovers_by_quick_answers(scene, clock):
    it = scene(ttft_penalty_threshold_ms=1000)
    it.stream("gpu-1", 9.0, times=20)
    slow = it.judge().weights
    clock.advance(INTERVAL_S)
    tried = it.judge().weights
    it.stream("gpu-1", 0.2, times=5)

    assert (slow, tried, it.judge().weights) == ({"gpu-1": 0.0}, {}, {})
    assert it.reserve("gpu-1") is None


def test_answers_in_one_piece_do_not_prove_that_it_is_quick(scene):
    it = scene(ttft_penalty_threshold_ms=1000)
    it.stream("gpu-1", 9.0, times=20)
    it.record("gpu-1", times=20)

    assert it.figures("gpu-1").is_slow


def test_a_healthy_backend_gets_no_trial(scene):
    it = scene()
    it.record("gpu-1", times=20)

    assert it.reserve("gpu-1") is None
    assert it.reserve("gpu-2") is None


def test_a_stage_that_only_observes_begins_no_trial(broken, clock):
    broken.stage.is_observed = True
    clock.advance(INTERVAL_S)

    assert broken.judge().avoided == {"gpu-1"}


def test_trials_are_counted(broken, clock, make_attempt):
    clock.advance(INTERVAL_S)
    broken.reserve("gpu-1").settle(make_attempt())

    assert broken.track("gpu-1").trials_total == 1


def test_the_verdicts_have_another_version_whenever_a_trial_is_due_begins_or_ends(broken, clock, make_attempt):
    stage, fleet, versions = broken.stage, broken.intent().snapshot, []

    def note():
        versions.append(stage.version(fleet))
        versions.append(stage.version(fleet))

    note()
    clock.advance(INTERVAL_S)
    note()
    hold = broken.reserve("gpu-1")
    note()
    hold.settle(make_attempt(ending=Ending.REJECTED))
    note()

    assert versions[::2] == versions[1::2]
    assert len(set(versions)) == 4


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["fail", "answer", "wait", "wait long", "begin", "end"]), max_size=40))
def test_verdicts_of_one_version_are_the_same(scene, clock, make_attempt, steps):
    it, holds, seen, holding = scene(), [], {}, {}
    backend = next(backend for backend in it.intent().snapshot.backends if backend.name == "gpu-1")
    fleet = it.intent().snapshot

    for step in ["fail"] * 15 + steps:
        match step:
            case "fail":
                it.fail("gpu-1")
            case "answer":
                it.record("gpu-1")
            case "begin":
                holds.append(it.reserve("gpu-1"))
            case "end":
                for hold in filter(None, holds):
                    hold.settle(make_attempt())
                holds.clear()
            case _:
                clock.advance(INTERVAL_S / 2 if step == "wait" else 1500.0)
        version, may_hold = it.stage.version(fleet), it.stage.may_hold(backend, "llama3")
        assert holding.setdefault(version, may_hold) is may_hold
        assert seen.setdefault(version, it.judge()) == it.judge()
        fresh = type(it.stage)(it.config, it.measurements)
        intent = it.intent()
        fresh.reconcile(intent)
        assert seen[version].avoided == {verdict.backend for verdict in intent.avoided}
        held = it.reserve("gpu-1")
        assert may_hold or held is None
        if held is not None:
            held.settle(make_attempt(ending=Ending.REJECTED))
