"""Whatever one stage does, the others decide as if it were not there, or the request is rejected; nothing leaks."""

import asyncio
from contextlib import suppress
from itertools import chain, cycle
from math import inf, nan

from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.plugin_manager import Plugin
from nexus.routing.core_stages.analyze import Analyze
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.decision import Reject, Reserved
from nexus.routing.decision_record import Request
from nexus.routing.intent import Verdict
from nexus.routing.pipeline import Pipeline
from nexus.routing.router import Router, Routing
from nexus.routing.stage.api import Hold, Reconciler, Refusal
from nexus.routing.stage.order import in_order
from nexus.testing.builders import CHAT, make_backend, make_fleet, make_intent
from nexus.testing.strategies import fleets, requirements

modestly = settings(max_examples=80, deadline=None)

RUBBISH = st.sampled_from([None, "", " ", 5, nan, inf, b"x", [], {}, object(), "privacy", make_backend("ghost"), int])


class Unshowable(Exception):
    """Has no text."""

    def __str__(self):
        raise SystemExit


class Both(BaseExceptionGroup):
    """Two exceptions that would end the process."""

    def __new__(cls):
        return super().__new__(cls, "both", [SystemExit(1), KeyboardInterrupt()])


EXCEPTIONS = st.sampled_from(
    [
        *(ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError),
        *(RecursionError, MemoryError, StopIteration, BaseException, Unshowable, Both),
    ]
)


class Careful(Reconciler):
    """Excludes backends of an odd priority."""

    name = "careful"

    def __init__(self, priority):
        self.priority = priority

    def reconcile(self, intent):
        for backend in intent:
            if backend.priority % 2:
                intent.exclude(backend, stage=self.name, reason="for the test")
            elif backend.tier > 3:
                intent.avoid(backend, stage=self.name, reason="for the test")


class Held(Hold):
    def __init__(self, stage):
        self._stage = stage

    def settle(self, outcome):
        self._stage.settled.append(id(self))
        return self._stage.play("settle")

    def headers(self, usage):
        return self._stage.play("headers")


def replace_the_fleet(intent, _, thing):
    intent.snapshot = thing


def write_into_the_models(_, backend, thing):
    backend.models["rogue"] = thing


def free_slots(_, backend, __):
    backend.load.in_flight = 0


DEEDS = {
    "exclude": lambda intent, backend, thing: intent.exclude(backend, stage="rogue", reason="x", context=thing),
    "exclude wrongly": lambda intent, _, thing: intent.exclude(thing, stage="rogue", reason="x"),
    "blame": lambda intent, backend, thing: intent.exclude(backend, stage=thing, reason=thing),
    "weigh": lambda intent, backend, thing: intent.weigh(backend, thing, stage="rogue", reason="x"),
    "put": lambda intent, _, thing: intent.excluded.append(thing),
    "clear": lambda intent, *_: (intent.excluded.clear(), intent.survivors.clear()),
    "replace": replace_the_fleet,
    "write": write_into_the_models,
    "free": free_slots,
}


class Rogue(Reconciler):
    """Does what hypothesis generates, call by call; the steps of a call run to the end or to an exception."""

    name = "rogue"
    priority = 500

    def __init__(self, script, on_error):
        self.on_error = on_error
        self._script = script
        self.kept = []
        self.held = []
        self.settled = []

    def play(self, part, intent=None):
        returned = None
        for step, thing in self._script.get(part, ()):
            if step == "raise":
                raise thing
            if step == "return":
                returned = thing
            elif step == "keep":
                self.kept.append(intent)
            elif intent is not None and intent.candidates:
                DEEDS[step](intent, next(iter(intent)), thing)
        return returned

    def reconcile(self, intent):
        return self.play("reconcile", intent)

    def reserve(self, intent, backend):
        returned = self.play("reserve", intent)
        if returned is not None:
            return returned
        self.held.append(Held(self))
        return self.held[-1]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("raise"), EXCEPTIONS),
        st.tuples(st.just("return"), RUBBISH),
        st.tuples(
            st.sampled_from(["exclude", "exclude wrongly", "blame", "weigh", "put", "replace", "write"]), RUBBISH
        ),
        st.tuples(st.sampled_from(["keep", "clear", "free"]), st.none()),
        st.tuples(st.just("put"), st.builds(Verdict, RUBBISH, RUBBISH, RUBBISH)),
    ),
    max_size=3,
)
MISDEED = st.one_of(st.tuples(st.just("raise"), EXCEPTIONS), st.just(("return", 5)))


def pipeline_of(rogue, careful_priority):
    stages = [Careful(careful_priority)] + ([] if rogue is None else [rogue])
    contributed = [(Plugin(stage.name, "d", "1", {}), stage) for stage in stages]
    schedule = Schedule()
    return Router(pipeline=Pipeline(in_order((Analyze(), schedule), contributed)), schedule=schedule)


def left(router, backends, asked):
    intent = make_intent(backends=backends, model=asked.model, requirements=asked)
    router.pipeline.run(intent)
    others = [v for v in (*intent.excluded, *intent.avoided, *intent.weights) if v.stage != "rogue"]
    return intent.candidates, others


@modestly
@given(fleets(), requirements(), steps, MISDEED, st.integers(-5, 1500))
def test_a_stage_that_may_be_skipped_and_fails_leaves_the_survivors_of_the_others(
    backends, asked, steps, misdeed, priority
):
    rogue = Rogue({"reconcile": [*steps, misdeed]}, "skip")

    with capture_logs():
        found = left(pipeline_of(rogue, priority), backends, asked)

    assert found == left(pipeline_of(None, priority), backends, asked)


@modestly
@given(fleets(), requirements(), steps, st.integers(-5, 1500))
def test_whatever_a_stage_says_it_only_narrows_and_all_of_it_can_be_shown(backends, asked, steps, priority):
    router = pipeline_of(Rogue({"reconcile": steps}, "skip"), priority)
    intent = make_intent(backends=backends, model=asked.model, requirements=asked)
    before = intent.candidates

    with capture_logs():
        router.pipeline.run(intent)

    assert intent.candidates == before - {verdict.backend for verdict in intent.excluded}
    said = [*intent.excluded, *intent.avoided, *intent.weights]
    assert all(type(v) is Verdict and v.stage and v.reason.strip() and v.backend in before for v in said)
    assert left(pipeline_of(None, priority), backends, asked)[0] >= intent.candidates


@modestly
@given(fleets(), requirements(), steps, MISDEED, st.integers(-5, 1500))
def test_a_stage_that_must_not_be_skipped_and_fails_ends_the_request(backends, asked, steps, misdeed, priority):
    fleet = make_fleet(*backends)
    router = pipeline_of(Rogue({"reconcile": [*steps, misdeed]}, "reject"), priority)

    with capture_logs():
        answer = search(router, asked).next(fleet)

    assert isinstance(answer, Reject)
    assert (answer.code == "policy_unavailable") == bool(fleet.having(asked.model))


@modestly
@given(
    fleets(),
    requirements(),
    st.fixed_dictionaries(dict.fromkeys(("reconcile", "reserve", "settle", "headers"), steps)),
    st.sampled_from(["skip", "reject"]),
    st.lists(st.sampled_from(["next", "settle", "settle twice"]), max_size=20),
)
def test_all_that_is_held_is_given_back_once(backends, asked, script, on_error, acts):
    fleet, rogue = make_fleet(*backends), Rogue(script, on_error)
    before = [(b.load.in_flight, b.load.probing) for b in fleet.backends]
    router = pipeline_of(rogue, 100)
    searches, reserved = cycle([search(router, asked) for _ in range(3)]), []

    with capture_logs():
        for act in chain(acts, ["settle"] * len(acts)):
            if act == "next":
                answer = next(searches).next(fleet)
                reserved += [answer] if isinstance(answer, Reserved) else []
            elif reserved:
                settle(reserved.pop(), times=2 if act == "settle twice" else 1)

    assert reserved == []
    assert [(b.load.in_flight, b.load.probing) for b in fleet.backends] == before
    assert sorted(rogue.settled) == sorted(map(id, rogue.held))


@modestly
@given(fleets(), requirements(), steps)
def test_an_intent_that_is_kept_leads_nowhere(backends, asked, steps):
    rogue = Rogue({"reconcile": [("keep", None)]}, "skip")
    router = pipeline_of(rogue, 100)
    intent = make_intent(backends=backends, model=asked.model, requirements=asked)
    with capture_logs():
        router.pipeline.run(intent)
    said = intent.candidates, [*intent.excluded], [*intent.avoided], [*intent.weights]

    for kept in rogue.kept:
        with suppress(BaseException):
            Rogue({"reconcile": steps}, "skip").reconcile(kept)

    assert (intent.candidates, intent.excluded, intent.avoided, intent.weights) == said


def test_refusals_in_rubbish_are_failures():
    backend = make_backend()
    rogue = Rogue({"reserve": [("return", Refusal(5))]}, "skip")

    with capture_logs() as logs:
        pipeline_of(rogue, 100).pipeline.reserve(make_intent(backends=[backend]), backend).settle(None)

    assert [line["event"] for line in logs] == ["stage_skipped"]


def search(router, asked):
    return Routing(router, Request(id="r", endpoint=CHAT, requirements=asked, headers={}, received_unix_s=0.0))


def settle(reserved, *, times):
    outcome = AttemptOutcome(
        backend=reserved.backend.name, backend_id=reserved.backend.id, model=reserved.model, ending=Ending.FINISHED
    )
    for hold in reserved.holds:
        hold.headers(None)
        for _ in range(times):
            hold.settle(outcome)
