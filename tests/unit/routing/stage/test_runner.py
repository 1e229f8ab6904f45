"""Whatever a plugin's stage does, a failure means what the stage has declared, and other stages are not affected."""

import asyncio
import inspect
import signal
from math import inf, nan

import pytest
from structlog.testing import capture_logs

from nexus.containment import interrupts_noted
from nexus.errors import StageFailed
from nexus.routing.intent import Verdict
from nexus.routing.stage.api import Refusal
from nexus.testing.builders import make_backend, make_fleet, make_intent
from tests.support.rogue_stages import Held, deferred, judging, new_intent, raising, verdicts_on


def puts(verdict, into="excluded"):
    return lambda intent: getattr(intent, into).append(verdict)


def sets(name):
    return lambda intent: setattr(intent, name, getattr(intent, name))


def calls_itself(intent):
    calls_itself(intent)


def mutates(what):
    """Return a ``reconcile`` that writes into something that all requests or stages share."""

    def write(intent):
        shared = what(intent)
        shared["rogue"] = "was here"

    return write


MISDEEDS = {
    "raises": raising(ValueError("broken")),
    "raises an exit": raising(SystemExit(1)),
    "raises the end of a generator": raising(GeneratorExit()),
    "raises a cancellation": raising(asyncio.CancelledError()),
    "never ends calling itself": calls_itself,
    "returns something": lambda _: True,
    "returns a coroutine": lambda _: deferred(),
    "speaks in another's name": judging("exclude", stage="privacy"),
    "gives no reason": judging("exclude", reason=""),
    "gives a blank reason": judging("exclude", reason=" \n"),
    "gives a number as reason": judging("exclude", reason=5),
    "gives an unknown code": judging("exclude", code="because"),
    "gives a list as code": judging("exclude", code=[]),
    "gives facts that are no JSON": judging("exclude", context={"why": object()}),
    "gives facts without names": judging("exclude", context=["why"]),
    "gives megabytes of facts": judging("exclude", context={"why": "x" * 100_000}),
    "gives a number as action": judging("avoid", action=5),
    "excludes a name": lambda intent: intent.exclude("gpu-1", stage="rogue", reason="x"),
    "excludes a stranger": lambda intent: intent.exclude(make_backend("ghost"), stage="rogue", reason="x"),
    "weighs by nothing that is a number": judging("weigh", nan),
    "weighs by infinity": judging("weigh", inf),
    "weighs by text": judging("weigh", "half"),
    "puts in a weight of its own": puts(Verdict("gpu-1", "rogue", "x", factor=nan), "weights"),
    "puts in a heavy weight": puts(Verdict("gpu-1", "rogue", "x", factor=9.0), "weights"),
    "puts in rubbish": puts("gpu-1"),
    "puts in a list": puts(Verdict(["gpu-1"], "rogue", "x")),
    "says a thing without end": lambda intent: [judging("avoid")(intent) for _ in range(1000)],
    "replaces what was asked": sets("requirements"),
    "replaces the fleet": sets("snapshot"),
    "replaces what was said": sets("excluded"),
    "adds an attribute": lambda intent: setattr(intent, "rogue", 1),
    "writes into the headers": mutates(lambda intent: intent.headers),
    "writes into a policy": mutates(lambda intent: intent.policies[0]),
    "writes into the fleet": mutates(lambda intent: intent.snapshot.by_model),
    "writes into the ids": mutates(lambda intent: intent.snapshot.by_id),
    "writes into the models of a backend": mutates(lambda intent: next(iter(intent)).models),
    "changes a backend": lambda intent: setattr(next(iter(intent)), "zone", "restricted"),
    "frees a slot": lambda intent: setattr(next(iter(intent)).load, "in_flight", 0),
}


@pytest.fixture(params=MISDEEDS)
def misdeed(request):
    return MISDEEDS[request.param]


def test_verdicts_of_a_failed_stage_that_may_be_skipped_have_no_effect(pipeline, stage, misdeed):
    rogue = stage(misdeed, name="rogue", on_error="skip")
    subject, intent, untouched = pipeline(rogue), new_intent(), new_intent()

    with capture_logs() as logs:
        subject.run(intent)

    assert verdicts_on(intent) == verdicts_on(untouched)
    assert [(line["event"], line["plugin"], line["stage"]) for line in logs] == [("stage_skipped", "rogue", "rogue")]
    assert subject.stages[0].counters.failures == {"reconcile": 1}


def test_a_failed_stage_that_must_not_be_skipped_ends_the_request(pipeline, stage, misdeed):
    subject, after = pipeline(stage(misdeed, name="rogue"), stage(name="x", priority=900)), new_intent()

    with capture_logs() as logs, pytest.raises(StageFailed) as failure:
        subject.run(after)

    assert (failure.value.plugin, failure.value.stage) == ("rogue", "rogue")
    assert [line["event"] for line in logs] == ["stage_failed"]


def test_a_failed_stage_that_only_observes_has_no_effect(pipeline, stage, misdeed):
    subject, intent, untouched = (
        pipeline(stage(misdeed, name="rogue"), observe=["rogue"]),
        new_intent(),
        new_intent(),
    )

    with capture_logs() as logs:
        subject.run(intent)

    assert verdicts_on(intent) == verdicts_on(untouched)
    assert [line["event"] for line in logs] == ["stage_skipped"]


def test_a_failed_stage_leaves_the_verdicts_of_others(pipeline, stage, misdeed):
    def exclude(intent):
        for backend in intent.candidates_in(zone="cloud"):
            intent.exclude(backend, stage="privacy", reason="data stays here")

    subject, intent = (
        pipeline(stage(exclude, name="privacy"), stage(misdeed, name="rogue", on_error="skip")),
        new_intent(),
    )

    with capture_logs():
        subject.run(intent)

    assert intent.candidates == {"gpu-1"}
    assert [verdict.stage for verdict in intent.excluded] == ["privacy"]


def test_a_stage_cannot_revoke_the_verdict_of_another(pipeline, stage):
    def take_back(intent):
        intent.excluded.clear()

    subject, intent = (
        pipeline(stage(judging("exclude"), name="rogue"), stage(take_back, name="x", priority=900)),
        new_intent(),
    )

    subject.run(intent)

    assert intent.candidates == {"openai"}
    assert len(intent.excluded) == 1


def test_a_stage_cannot_bring_a_candidate_back(pipeline, stage):
    def bring_back(intent):
        intent.survivors["gpu-1"] = (make_backend("gpu-1"), "llama3")

    subject, intent = (
        pipeline(stage(judging("exclude"), name="rogue"), stage(bring_back, name="x", priority=900)),
        new_intent(),
    )

    with pytest.raises(StageFailed):
        subject.run(intent)

    assert intent.candidates == {"openai"}
    assert len(intent.excluded) == 1


def test_an_intent_that_a_stage_keeps_has_no_effect_later(pipeline, stage):
    kept = []
    subject, intent, untouched = pipeline(stage(kept.append, name="rogue")), new_intent(), new_intent()
    subject.run(intent)

    judging("exclude")(kept[0])

    assert verdicts_on(intent) == verdicts_on(untouched)


def test_an_interrupt_of_the_operator_is_no_failure_of_a_stage(pipeline, stage):
    subject = pipeline(stage(lambda _: signal.raise_signal(signal.SIGINT), name="rogue", on_error="skip"))

    with pytest.raises(KeyboardInterrupt), interrupts_noted():
        subject.run(new_intent())


def test_an_interrupt_that_a_stage_raises_itself_is_its_failure(pipeline, stage):
    subject = pipeline(stage(raising(KeyboardInterrupt()), name="rogue", on_error="skip"))

    with capture_logs(), interrupts_noted():
        subject.run(new_intent())

    assert subject.stages[0].counters.failures == {"reconcile": 1}


def test_an_interrupt_of_the_operator_is_found_in_a_group(pipeline, stage):
    def gathers(_):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as exc:
            raise BaseExceptionGroup("all", [exc]) from exc

    subject = pipeline(stage(gathers, name="rogue", on_error="skip"))

    with pytest.raises(BaseExceptionGroup), interrupts_noted():
        subject.run(new_intent())


HOLDING_MISDEEDS = {
    "raises": lambda *_: 1 / 0,
    "raises an exit": lambda *_: raising(SystemExit())(_),
    "returns something": lambda *_: "a slot",
    "returns a coroutine": lambda *_: deferred(),
    "returns a type": lambda *_: Held,
    "refuses without words": lambda *_: Refusal(None),
    "refuses in rubbish": lambda *_: Refusal("no", context={"why": object()}),
    "refuses for no time": lambda *_: Refusal("no", retry_in_s=float("nan")),
    "changes a backend": lambda _, backend: setattr(backend, "tier", 5),
}


@pytest.fixture(params=HOLDING_MISDEEDS)
def holding_misdeed(request):
    return HOLDING_MISDEEDS[request.param]


def test_a_stage_that_fails_to_hold_and_may_be_skipped_holds_nothing(pipeline, stage, holding_misdeed):
    held, backend = Held(), make_backend()
    subject = pipeline(
        stage(name="good", holds=lambda *_: held),
        stage(name="rogue", holds=holding_misdeed, on_error="skip"),
    )

    with capture_logs() as logs:
        subject.reserve(make_intent(backends=[backend]), backend).settle("the outcome")

    assert held.settled == 1
    assert [(line["event"], line["part"]) for line in logs] == [("stage_skipped", "reserve")]


@pytest.mark.parametrize("priority", [1, 900])
def test_a_stage_that_fails_to_hold_and_must_not_be_skipped_rejects(pipeline, stage, holding_misdeed, priority):
    held, backend = Held(), make_backend()
    subject = pipeline(
        stage(name="good", holds=lambda *_: held, priority=500),
        stage(name="rogue", holds=holding_misdeed, priority=priority),
    )

    with capture_logs() as logs, pytest.raises(StageFailed):
        subject.reserve(make_intent(backends=[backend]), backend)

    assert held.settled == (1 if priority == 1 else 0)
    assert [line["event"] for line in logs] == ["stage_failed"]


@pytest.mark.parametrize(
    "then", [raising(ValueError), raising(GeneratorExit), lambda _: deferred(), lambda _: "thanks"]
)
def test_a_hold_that_fails_to_settle_does_not_keep_others_from_settling(pipeline, stage, then):
    broken, steady, backend = Held(then), Held(), make_backend()
    subject = pipeline(
        stage(name="rogue", holds=lambda *_: broken, priority=900), stage(name="good", holds=lambda *_: steady)
    )
    reservation = subject.reserve(make_intent(backends=[backend]), backend)

    with capture_logs() as logs:
        reservation.settle("the outcome")
        reservation.settle("the outcome")

    assert (broken.settled, steady.settled) == (1, 1)
    assert [(line["event"], line["stage"]) for line in logs] == [("hold_not_settled", "rogue")]


def test_explaining_has_no_effect_on_the_intent(pipeline, stage):
    rogue, intent, untouched = stage(name="rogue"), new_intent(), new_intent()
    rogue.explain = lambda intent: judging("exclude")(intent) or {"limit": 3}

    assert pipeline(rogue).stages[0].explain(intent) == {"limit": 3}

    assert verdicts_on(intent) == verdicts_on(untouched)


def test_a_returned_coroutine_is_closed(pipeline, stage):
    made = []

    def decide(_):
        made.append(deferred())
        return made[0]

    with capture_logs():
        pipeline(stage(decide, name="rogue", on_error="skip")).run(new_intent())

    assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED


def test_what_requests_share_is_not_changed(pipeline, stage):
    backend = make_backend()
    fleet = make_fleet(backend)
    subject = pipeline(*(stage(does, name="rogue", on_error="skip") for does in list(MISDEEDS.values())[-1:]))

    with capture_logs():
        subject.run(make_intent(backends=[backend]))

    assert fleet.by_model.keys() == {"llama3"}
    assert backend.load.in_flight == 0
