"""Failures of a stage are counted and logged, and too many in a row switch it off."""

from collections import Counter

import pytest
from structlog.testing import capture_logs

from nexus.errors import StageFailed
from nexus.testing.builders import make_backend, make_intent
from tests.support.rogue_stages import Held, judging, new_intent, raising, verdicts_on


def test_failing_measures_are_logged_once_and_always_counted(pipeline, stage, clock):
    rogue = stage(name="rogue", on_error="skip")
    rogue.measures = lambda: 1 / 0
    subject = pipeline(rogue).stages[0]

    with capture_logs() as logs:
        for _ in range(20):
            clock.now += 60
            assert subject.measures() == ()

    assert [line["event"] for line in logs] == ["stage_not_measured"]
    assert subject.counters.failures == {"measures": 20}
    assert not subject.is_off


def fails_at(*turns):
    count = iter(range(1000))

    def maybe(intent):
        if next(count) in turns:
            raise ValueError
        judging("avoid")(intent)

    return maybe


def test_five_failures_in_a_row_switch_off_a_stage_that_may_be_skipped(pipeline, stage):
    subject = pipeline(stage(fails_at(*range(5)), name="rogue", on_error="skip"))
    intents = [new_intent() for _ in range(8)]

    with capture_logs() as logs:
        for intent in intents:
            subject.run(intent)

    assert subject.stages[0].is_off
    assert [verdicts_on(intent) for intent in intents] == [verdicts_on(new_intent())] * 8
    (line,) = [line for line in logs if line["event"] == "stage_switched_off"]
    assert (line["plugin"], line["stage"], line["failures_in_a_row"]) == ("rogue", "rogue", 5)


def test_a_stage_that_recovers_is_not_switched_off(pipeline, stage):
    subject = pipeline(stage(fails_at(0, 1, 2, 3, 5, 6, 7, 8), name="rogue", on_error="skip"))

    with capture_logs():
        for _ in range(10):
            subject.run(new_intent())

    assert not subject.stages[0].is_off
    assert subject.stages[0].counters.failures == {"reconcile": 8}


@pytest.mark.parametrize("observe", [(), ("rogue",)])
def test_a_stage_that_must_not_be_skipped_never_is(pipeline, stage, observe):
    subject = pipeline(stage(raising(ValueError), name="rogue"), observe=observe)
    outcomes = Counter()

    with capture_logs():
        for _ in range(20):
            try:
                subject.run(new_intent())
                outcomes["went on"] += 1
            except StageFailed:
                outcomes["rejected"] += 1

    assert outcomes == {"went on" if observe else "rejected": 20}
    assert not subject.stages[0].is_off


@pytest.mark.parametrize("what", ["reserve", "settle"])
def test_a_stage_that_always_fails_at_one_call_is_switched_off_although_others_succeed(pipeline, stage, what):
    holds = {"reserve": lambda *_: "rubbish", "settle": lambda *_: Held(raising(ValueError))}[what]
    subject, backend = pipeline(stage(name="rogue", on_error="skip", holds=holds)), make_backend()

    with capture_logs():
        for _ in range(5):
            intent = make_intent(backends=[backend])
            subject.run(intent)
            subject.reserve(intent, backend).settle("the outcome")

    assert subject.stages[0].is_off
    reservation = subject.reserve(intent, backend)
    assert not reservation.built_in
    assert not reservation.of_plugins


def test_verdicts_of_a_slow_stage_count_until_it_is_switched_off(pipeline, stage, clock):
    def dawdle(intent):
        clock.now += 0.06
        judging("exclude")(intent)

    subject = pipeline(stage(dawdle, name="rogue", on_error="skip"))
    intents = [new_intent() for _ in range(6)]

    with capture_logs() as logs:
        for intent in intents:
            subject.run(intent)

    assert [len(intent.excluded) for intent in intents] == [1, 1, 1, 1, 1, 0]
    assert [(line["event"], line.get("took_ms")) for line in logs] == [
        ("stage_slow", 60.0),
        ("stage_switched_off", None),
    ]
    assert (subject.stages[0].counters.slow, subject.stages[0].counters.failures) == ({"reconcile": 5}, {})


def test_a_hold_that_settles_slowly_is_logged(pipeline, stage, clock):
    def dawdle(_):
        clock.now += 1.0

    subject, backend = pipeline(stage(name="rogue", holds=lambda *_: Held(dawdle))), make_backend()
    reservation = subject.reserve(make_intent(backends=[backend]), backend)

    with capture_logs() as logs:
        reservation.settle("the outcome")

    assert [(line["event"], line["part"]) for line in logs] == [("stage_slow", "settle")]


def test_a_stage_that_fails_at_every_request_does_not_fill_the_log(pipeline, stage, clock):
    subject = pipeline(stage(raising(ValueError), name="rogue"))

    with capture_logs() as logs:
        for _ in range(81):
            clock.now += 0.25
            with pytest.raises(StageFailed):
                subject.run(new_intent())

    assert [line["unsaid_before"] for line in logs] == [0, 39, 39]


def test_a_reload_continues_the_counters_and_switches_on_again(pipeline, stage):
    before = pipeline(stage(raising(ValueError), name="rogue", on_error="skip"), stage(name="gone", priority=1))
    with capture_logs():
        for _ in range(5):
            before.run(new_intent())
        after = pipeline(stage(raising(ValueError), name="rogue", on_error="skip"))

        after.follow(before)
        after.run(new_intent())

    assert (before.stages[1].is_off, after.stages[0].is_off) == (True, False)
    assert after.counters.stages["rogue"].failures == {"reconcile": 6}
    assert after.counters.stages["rogue"] is after.stages[0].counters
    assert "gone" in after.counters.stages
