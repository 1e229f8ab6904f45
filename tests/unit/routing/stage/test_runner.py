"""Whatever a plugin's stage does, it is answered as the stage has declared, and nobody else is touched."""

import asyncio
import inspect
import signal
from collections import Counter
from math import inf, nan

import pytest
from structlog.testing import capture_logs

from nexus.containment import interrupts_noted
from nexus.errors import StageFailed
from nexus.routing.intent import Verdict
from nexus.routing.pipeline import Pipeline, Refused
from nexus.routing.stage.api import Hold, Refusal
from nexus.routing.stage.order import in_order
from nexus.testing.builders import make_backend, make_fleet, make_intent
from tests.support.fakes import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def pipeline(plugin, clock):
    """Give what makes a pipeline of the given stages alone."""

    def make(*stages, **operator):
        return Pipeline(in_order((), [(plugin(stage.name), stage) for stage in stages], **operator), clock)

    return make


def says(*words, **more):
    """Make what calls a method of the intent for the first candidate, as the stage ``rogue``."""

    def say(intent):
        method, *arguments = words
        getattr(intent, method)(next(iter(intent)), *arguments, **{"stage": "rogue", "reason": "for the test", **more})

    return say


def puts(verdict, into="excluded"):
    return lambda intent: getattr(intent, into).append(verdict)


def sets(name):
    return lambda intent: setattr(intent, name, getattr(intent, name))


class OwnText(str):
    """Text of a class of its own."""

    __slots__ = ()

    def __str__(self):
        raise RuntimeError


async def later():
    """Decide when nobody waits for it."""


def raises(exc):
    def fail(_):
        raise exc

    return fail


def calls_itself(intent):
    calls_itself(intent)


def mutates(what):
    """Make what writes into something that all requests, or all stages, share."""

    def write(intent):
        shared = what(intent)
        shared["rogue"] = "was here"

    return write


MISDEEDS = {
    "raises": raises(ValueError("broken")),
    "raises an exit": raises(SystemExit(1)),
    "raises the end of a generator": raises(GeneratorExit()),
    "raises a cancellation": raises(asyncio.CancelledError()),
    "never ends calling itself": calls_itself,
    "returns something": lambda _: True,
    "returns a coroutine": lambda _: later(),
    "speaks in another's name": says("exclude", stage="privacy"),
    "gives no reason": says("exclude", reason=""),
    "gives a blank reason": says("exclude", reason=" \n"),
    "gives a number as reason": says("exclude", reason=5),
    "gives an unknown code": says("exclude", code="because"),
    "gives a list as code": says("exclude", code=[]),
    "gives facts that are no JSON": says("exclude", context={"why": object()}),
    "gives facts without names": says("exclude", context=["why"]),
    "gives megabytes of facts": says("exclude", context={"why": "x" * 100_000}),
    "gives a number as action": says("avoid", action=5),
    "excludes a name": lambda intent: intent.exclude("gpu-1", stage="rogue", reason="x"),
    "excludes a stranger": lambda intent: intent.exclude(make_backend("ghost"), stage="rogue", reason="x"),
    "weighs by nothing that is a number": says("weigh", nan),
    "weighs by infinity": says("weigh", inf),
    "weighs by text": says("weigh", "half"),
    "puts in a weight of its own": puts(Verdict("gpu-1", "rogue", "x", factor=nan), "weights"),
    "puts in a heavy weight": puts(Verdict("gpu-1", "rogue", "x", factor=9.0), "weights"),
    "puts in rubbish": puts("gpu-1"),
    "puts in a list": puts(Verdict(["gpu-1"], "rogue", "x")),
    "says a thing without end": lambda intent: [says("avoid")(intent) for _ in range(1000)],
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


def asked():
    return make_intent(
        backends={"gpu-1": "local", "openai": "cloud"},
        headers={"x-nexus-strict": "true"},
        policy={"privacy": "restricted"},
    )


def said(intent):
    return intent.candidates, intent.excluded, intent.avoided, intent.weights, intent.observed


def test_a_stage_that_may_be_skipped_has_said_nothing(pipeline, stage, misdeed):
    rogue = stage(misdeed, name="rogue", on_error="skip")
    subject, intent, untouched = pipeline(rogue), asked(), asked()

    with capture_logs() as logs:
        subject.run(intent)

    assert said(intent) == said(untouched)
    assert [(line["event"], line["plugin"], line["stage"]) for line in logs] == [("stage_skipped", "rogue", "rogue")]
    assert subject.stages[0].counters.failures == {"reconcile": 1}


def test_a_stage_that_must_not_be_skipped_ends_the_request(pipeline, stage, misdeed):
    subject, after = pipeline(stage(misdeed, name="rogue"), stage(name="x", priority=900)), asked()

    with capture_logs() as logs, pytest.raises(StageFailed) as failure:
        subject.run(after)

    assert (failure.value.plugin, failure.value.stage) == ("rogue", "rogue")
    assert [line["event"] for line in logs] == ["stage_failed"]


def test_a_stage_that_only_observes_never_rejects_and_is_not_heard(pipeline, stage, misdeed):
    subject, intent, untouched = pipeline(stage(misdeed, name="rogue"), observe=["rogue"]), asked(), asked()

    with capture_logs() as logs:
        subject.run(intent)

    assert said(intent) == said(untouched)
    assert [line["event"] for line in logs] == ["stage_skipped"]


def test_what_others_said_stays(pipeline, stage, misdeed):
    def exclude(intent):
        for backend in intent.candidates_in(zone="cloud"):
            intent.exclude(backend, stage="privacy", reason="data stays here")

    subject, intent = pipeline(stage(exclude, name="privacy"), stage(misdeed, name="rogue", on_error="skip")), asked()

    with capture_logs():
        subject.run(intent)

    assert intent.candidates == {"gpu-1"}
    assert [verdict.stage for verdict in intent.excluded] == ["privacy"]


def test_a_stage_cannot_take_back_what_another_said(pipeline, stage):
    def take_back(intent):
        intent.excluded.clear()
        intent.survivors["gpu-1"] = (make_backend("gpu-1"), "llama3")

    subject, intent = pipeline(stage(says("exclude"), name="rogue"), stage(take_back, name="x", priority=900)), asked()

    subject.run(intent)

    assert intent.candidates == {"openai"}
    assert len(intent.excluded) == 1


def test_an_intent_that_a_stage_keeps_leads_nowhere(pipeline, stage):
    kept = []
    subject, intent, untouched = pipeline(stage(kept.append, name="rogue")), asked(), asked()
    subject.run(intent)

    says("exclude")(kept[0])

    assert said(intent) == said(untouched)


def test_who_is_out_already_may_be_spoken_of(pipeline, stage):
    out = make_backend("gpu-1")
    again = stage(lambda intent: intent.exclude(out, stage="x", reason="that too"), name="x", priority=900)
    subject, intent = pipeline(stage(says("exclude"), name="rogue"), again), asked()

    subject.run(intent)

    assert [(v.backend, v.stage) for v in intent.excluded] == [("gpu-1", "rogue"), ("gpu-1", "x")]


@pytest.mark.parametrize("reason", ["x" * 10_000, "ü" * 10_000, OwnText("y" * 10_000), "half a \ud83d pair" * 99])
def test_a_reason_is_kept_in_a_length_that_people_read(pipeline, stage, reason):
    subject, intent = pipeline(stage(says("exclude", reason=reason), name="rogue")), asked()

    subject.run(intent)

    kept = intent.excluded[0].reason
    assert (type(kept), len(kept), kept[-1]) == (str, 501, "…")
    kept.encode()


def test_facts_are_kept_as_they_were_said(pipeline, stage):
    facts = {"required_tier": 3}
    subject, intent = pipeline(stage(says("exclude", context=facts), name="rogue")), asked()
    subject.run(intent)

    facts["required_tier"] = object()

    assert intent.excluded[0].context == {"required_tier": 3}


def test_an_interrupt_of_the_operator_is_no_failure_of_a_stage(pipeline, stage):
    subject = pipeline(stage(lambda _: signal.raise_signal(signal.SIGINT), name="rogue", on_error="skip"))

    with pytest.raises(KeyboardInterrupt), interrupts_noted():
        subject.run(asked())


def test_an_interrupt_that_a_stage_raises_itself_is_its_failure(pipeline, stage):
    subject = pipeline(stage(raises(KeyboardInterrupt()), name="rogue", on_error="skip"))

    with capture_logs(), interrupts_noted():
        subject.run(asked())

    assert subject.stages[0].counters.failures == {"reconcile": 1}


def test_an_interrupt_of_the_operator_is_known_within_a_group(pipeline, stage):
    def gathers(_):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as exc:
            raise BaseExceptionGroup("all", [exc]) from exc

    subject = pipeline(stage(gathers, name="rogue", on_error="skip"))

    with pytest.raises(BaseExceptionGroup), interrupts_noted():
        subject.run(asked())


# what it holds


class Held(Hold):
    """Counts how often it is settled, and then does what a test tells it."""

    def __init__(self, then=lambda _: None):
        self.settled = 0
        self._then = then

    def settle(self, outcome):
        self.settled += 1
        return self._then(outcome)


HOLDING_MISDEEDS = {
    "raises": lambda *_: 1 / 0,
    "raises an exit": lambda *_: raises(SystemExit())(_),
    "returns something": lambda *_: "a slot",
    "returns a coroutine": lambda *_: later(),
    "returns a type": lambda *_: Held,
    "refuses without words": lambda *_: Refusal(None),
    "refuses in rubbish": lambda *_: Refusal("no", context={"why": object()}),
    "changes a backend": lambda _, backend: setattr(backend, "tier", 5),
}


@pytest.fixture(params=HOLDING_MISDEEDS)
def holding_misdeed(request):
    return HOLDING_MISDEEDS[request.param]


def test_a_stage_that_may_be_skipped_holds_nothing(pipeline, stage, holding_misdeed):
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
def test_a_stage_that_must_not_be_skipped_leaves_nothing_held(pipeline, stage, holding_misdeed, priority):
    held, backend = Held(), make_backend()
    subject = pipeline(
        stage(name="good", holds=lambda *_: held, priority=500),
        stage(name="rogue", holds=holding_misdeed, priority=priority),
    )

    with capture_logs() as logs, pytest.raises(StageFailed):
        subject.reserve(make_intent(backends=[backend]), backend)

    assert held.settled == (1 if priority == 1 else 0)
    assert [line["event"] for line in logs] == ["stage_failed"]


@pytest.mark.parametrize("then", [raises(ValueError), raises(GeneratorExit), lambda _: later(), lambda _: "thanks"])
def test_a_hold_that_cannot_be_settled_does_not_keep_the_others(pipeline, stage, then):
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


class Telling(Held):
    def __init__(self, told):
        super().__init__()
        self._told = told

    def headers(self, usage):
        return self._told


@pytest.mark.parametrize(
    "told",
    [
        None,
        ["X-Nexus-Cost"],
        {"X-Nexus-Cost": 5},
        {"X-Nexus-Cost": "1\r\nSet-Cookie: a=b"},
        {"X-Nexus-Cost\r\nX": "1"},
        {"Set-Cookie": "a=b"},
        {"X-Nexus-Backend": "another"},
        {"x-nexus-route-reason": "because"},
        {"X-Nexus-Cost": "x" * 10_000},
        {5: "1"},
    ],
)
def test_headers_that_cannot_be_sent_are_not(pipeline, stage, told):
    holds, backend = {"good": Telling({"X-Nexus-Ü".replace("Ü", "U"): "1"}), "rogue": Telling(told)}, make_backend()
    subject = pipeline(*(stage(name=name, holds=lambda *_, hold=hold: hold) for name, hold in holds.items()))
    reservation = subject.reserve(make_intent(backends=[backend]), backend)

    with capture_logs() as logs:
        assert reservation.headers(None) == {"X-Nexus-U": "1"}

    assert [(line["event"], line["stage"]) for line in logs] == [("hold_without_headers", "rogue")]


# what it is asked besides


@pytest.mark.parametrize("facts", [None, [1], {"why": object()}, {"why": "x" * 100_000}, {1: {2: {3j: 4}}}])
def test_facts_that_cannot_be_shown_are_not(pipeline, stage, facts):
    rogue = stage(name="rogue")
    rogue.explain = lambda _: facts
    subject = pipeline(rogue)

    with capture_logs() as logs:
        assert set(subject.stages[0].explain(asked())) == {"failed"}

    assert [(line["event"], line["part"]) for line in logs] == [("stage_not_explained", "explain")]


def test_explaining_touches_nothing(pipeline, stage):
    rogue, intent, untouched = stage(name="rogue"), asked(), asked()
    rogue.explain = lambda intent: says("exclude")(intent) or {"limit": 3}

    assert pipeline(rogue).stages[0].explain(intent) == {"limit": 3}

    assert said(intent) == said(untouched)


def test_measures_that_fail_are_said_once_and_counted_always(pipeline, stage, clock):
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


# what comes of it


def fails_at(*turns):
    count = iter(range(1000))

    def maybe(intent):
        if next(count) in turns:
            raise ValueError
        says("avoid")(intent)

    return maybe


def test_five_failures_in_a_row_switch_off_a_stage_that_may_be_skipped(pipeline, stage):
    subject = pipeline(stage(fails_at(*range(5)), name="rogue", on_error="skip"))
    intents = [asked() for _ in range(8)]

    with capture_logs() as logs:
        for intent in intents:
            subject.run(intent)

    assert subject.stages[0].is_off
    assert [said(intent) for intent in intents] == [said(asked())] * 8
    (line,) = [line for line in logs if line["event"] == "stage_switched_off"]
    assert (line["plugin"], line["stage"], line["failures_in_a_row"]) == ("rogue", "rogue", 5)


def test_a_stage_that_recovers_is_not_switched_off(pipeline, stage):
    subject = pipeline(stage(fails_at(0, 1, 2, 3, 5, 6, 7, 8), name="rogue", on_error="skip"))

    with capture_logs():
        for _ in range(10):
            subject.run(asked())

    assert not subject.stages[0].is_off
    assert subject.stages[0].counters.failures == {"reconcile": 8}


@pytest.mark.parametrize("observe", [(), ("rogue",)])
def test_a_stage_that_must_not_be_skipped_never_is(pipeline, stage, observe):
    subject = pipeline(stage(raises(ValueError), name="rogue"), observe=observe)
    outcomes = Counter()

    with capture_logs():
        for _ in range(20):
            try:
                subject.run(asked())
                outcomes["went on"] += 1
            except StageFailed:
                outcomes["rejected"] += 1

    assert outcomes == {"went on" if observe else "rejected": 20}
    assert not subject.stages[0].is_off


@pytest.mark.parametrize("what", ["reserve", "settle"])
def test_a_stage_that_never_manages_one_part_is_switched_off_however_well_it_does_another(pipeline, stage, what):
    holds = {"reserve": lambda *_: "rubbish", "settle": lambda *_: Held(raises(ValueError))}[what]
    subject, backend = pipeline(stage(name="rogue", on_error="skip", holds=holds)), make_backend()

    with capture_logs():
        for _ in range(5):
            intent = make_intent(backends=[backend])
            subject.run(intent)
            subject.reserve(intent, backend).settle("the outcome")

    assert subject.stages[0].is_off
    reservation = subject.reserve(intent, backend)
    assert (reservation._built_in, reservation._plugins) == ([], [])


def test_a_slow_stage_is_heard_and_named_and_in_the_end_switched_off(pipeline, stage, clock):
    def dawdle(intent):
        clock.now += 0.06
        says("exclude")(intent)

    subject = pipeline(stage(dawdle, name="rogue", on_error="skip"))
    intents = [asked() for _ in range(6)]

    with capture_logs() as logs:
        for intent in intents:
            subject.run(intent)

    assert [len(intent.excluded) for intent in intents] == [1, 1, 1, 1, 1, 0]
    assert [(line["event"], line.get("took_ms")) for line in logs] == [
        ("stage_slow", 60.0),
        ("stage_switched_off", None),
    ]
    assert (subject.stages[0].counters.slow, subject.stages[0].counters.failures) == ({"reconcile": 5}, {})


def test_a_hold_that_settles_slowly_is_named(pipeline, stage, clock):
    def dawdle(_):
        clock.now += 1.0

    subject, backend = pipeline(stage(name="rogue", holds=lambda *_: Held(dawdle))), make_backend()
    reservation = subject.reserve(make_intent(backends=[backend]), backend)

    with capture_logs() as logs:
        reservation.settle("the outcome")

    assert [(line["event"], line["part"]) for line in logs] == [("stage_slow", "settle")]


def test_a_stage_that_fails_at_every_request_does_not_fill_the_log(pipeline, stage, clock):
    subject = pipeline(stage(raises(ValueError), name="rogue"))

    with capture_logs() as logs:
        for _ in range(81):
            clock.now += 0.25
            with pytest.raises(StageFailed):
                subject.run(asked())

    assert [line["unsaid_before"] for line in logs] == [0, 39, 39]


def test_a_reload_goes_on_counting_and_switches_on_again(pipeline, stage):
    before = pipeline(stage(raises(ValueError), name="rogue", on_error="skip"), stage(name="gone", priority=1))
    with capture_logs():
        for _ in range(5):
            before.run(asked())
        after = pipeline(stage(raises(ValueError), name="rogue", on_error="skip"))

        after.follow(before)
        after.run(asked())

    assert (before.stages[1].is_off, after.stages[0].is_off) == (True, False)
    assert after.counters.stages["rogue"].failures == {"reconcile": 6}
    assert after.counters.stages["rogue"] is after.stages[0].counters
    assert "gone" in after.counters.stages


def test_a_refusal_of_a_plugin_is_told_as_it_is(pipeline, stage):
    refusal, backend = Refusal("no money", action="wait", context={"limit_usd": 1.5}), make_backend()
    subject = pipeline(stage(name="budget", holds=lambda *_: refusal))

    refused = subject.reserve(make_intent(backends=[backend]), backend)

    assert isinstance(refused, Refused)
    assert (refused.stage, refused.refusal) == ("budget", refusal)


def test_no_coroutine_is_left_that_somebody_believes_awaited(pipeline, stage):
    made = []

    def decide(_):
        made.append(later())
        return made[0]

    with capture_logs():
        pipeline(stage(decide, name="rogue", on_error="skip")).run(asked())

    assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED


def test_what_is_shared_between_requests_is_what_it_was(pipeline, stage):
    backend = make_backend()
    fleet = make_fleet(backend)
    subject = pipeline(*(stage(does, name="rogue", on_error="skip") for does in list(MISDEEDS.values())[-1:]))

    with capture_logs():
        subject.run(make_intent(backends=[backend]))

    assert fleet.by_model.keys() == {"llama3"}
    assert backend.load.in_flight == 0


@pytest.mark.parametrize(
    ("code", "context"),
    [
        ("context_length_exceeded", {"context_length": "long"}),
        ("context_length_exceeded", None),
        ("capability_mismatch", {"missing_capabilities": 5}),
        ("capability_mismatch", {"missing_capabilities": [1, None]}),
    ],
)
def test_a_code_of_the_core_with_facts_of_another_sort_is_a_rejection_all_the_same(
    router, routing, stage, code, context
):
    def exclude(intent):
        for backend in intent:
            intent.exclude(backend, stage="rogue", reason="for the test", code=code, context=context)

    reject = routing(router(stage(exclude, name="rogue"))).next(make_fleet(make_backend()))

    assert reject.code == code
