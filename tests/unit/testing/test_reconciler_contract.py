"""The contract notices each sort of stage that breaks it."""

import inspect
import socket
import time
from itertools import count

import pytest
from structlog.testing import capture_logs

from nexus.domain.measure import Measure, Sample
from nexus.domain.outcome import Ending
from nexus.domain.request import Requirements
from nexus.errors import NexusError
from nexus.routing.stage.api import Hold, Reconciler, Refusal
from nexus.testing.builders import make_intent
from nexus.testing.reconciler_contract import ReconcilerContract

turn = count()


def restores(intent):
    for backend in intent:
        intent.survivors["ghost"] = (backend, "ghost")


def blames_another(intent):
    for backend in intent:
        intent.exclude(backend, stage="privacy", reason="not me")


def gives_no_reason(intent):
    for backend in intent:
        intent.exclude(backend, stage="bad", reason=" ")


def changes_its_mind(intent):
    for backend in intent:
        if next(turn) % 2:
            intent.exclude(backend, stage="bad", reason="today")


def looks_at_others(intent):
    if intent.excluded:
        for backend in intent:
            intent.exclude(backend, stage="bad", reason="others did")


def opens_a_socket(_):
    socket.socket().close()


def sleeps(_):
    time.sleep(0.01)  # slower than any stage may be


def needs_somebody(intent):
    next(iter(intent))


@pytest.mark.parametrize(
    ("does", "promise"),
    [
        (restores, "test_it_never_adds_a_candidate"),
        (blames_another, "test_it_explains_in_its_own_name_whatever_it_says"),
        (gives_no_reason, "test_it_explains_in_its_own_name_whatever_it_says"),
        (changes_its_mind, "test_the_same_request_is_judged_the_same_way_twice"),
        (looks_at_others, "test_it_does_not_look_at_what_others_excluded"),
        (opens_a_socket, "test_it_opens_no_socket"),
        (sleeps, "test_it_is_quick"),
        (needs_somebody, "test_it_survives_an_empty_fleet"),
    ],
)
def test_a_stage_that_breaks_a_promise_is_caught(does, promise):
    class Bad(Reconciler):
        name = "bad"
        priority = 500

        def reconcile(self, intent):
            does(intent)

    class Contract(ReconcilerContract):
        def make(self):
            return Bad()

    with pytest.raises((AssertionError, StopIteration)):
        run(getattr(Contract, promise), Contract())


def objects_to_long_prompts(intent):
    for backend in intent if intent.requirements.prompt_tokens > 99 else ():
        intent.avoid(backend, stage="bad", reason="too long")


COUNTED = []


def counted():
    return [Measure(name="nexus_bad_requests", documentation="-", type="counter", samples=(Sample(len(COUNTED)),))]


def objects(intent):
    for backend in intent:
        intent.avoid(backend, stage="bad", reason="on principle")


@pytest.mark.parametrize(
    ("does", "declared", "promise"),
    [
        (
            objects_to_long_prompts,
            {"depends_on": frozenset({"capabilities", "stream"})},
            "test_its_verdicts_depend_only_on_what_it_declares",
        ),
        (objects, {"is_idle": lambda *_: True}, "test_it_decides_nothing_when_it_says_so"),
        (objects, {"is_quiet": lambda *_: True}, "test_it_decides_nothing_when_it_says_so"),
        (objects, {"wants_prompt_blocks": True}, "test_it_decides_nothing_without_the_marks_that_it_wants"),
        (
            lambda _: None,
            {"may_hold": lambda *_: False, "reserve": lambda *_: Held()},
            "test_it_decides_nothing_when_it_says_so",
        ),
        (
            lambda _: None,
            {"count": lambda _, intent: intent.excluded.append("x")},
            "test_counting_its_verdicts_changes_none",
        ),
        (
            lambda _: None,
            {"may_count": lambda *_: False, "count": lambda *_: COUNTED.append(1), "measures": lambda _: counted()},
            "test_counting_its_verdicts_changes_none",
        ),
    ],
)
def test_a_stage_that_does_not_keep_to_what_it_declares_is_caught(does, declared, promise):
    class Bad(Reconciler):
        name = "bad"
        priority = 500

        def reconcile(self, intent):
            does(intent)

    class Contract(ReconcilerContract):
        def make(self):
            return type("Declared", (Bad,), declared)()

    with pytest.raises(AssertionError):
        run(getattr(Contract, promise), Contract(), other=Requirements(model="llama3", prompt_tokens=500))


class Held(Hold):
    def __init__(self, settle=None, headers=None, listener=None):
        self._settle = settle or (lambda _: None)
        self._headers = headers or {}
        self._listener = listener

    def settle(self, outcome):
        return self._settle(outcome)

    def headers(self, usage):
        return self._headers

    def listener(self):
        return self._listener


def refuses_to_be_cut(outcome):
    if outcome.ending == "client_left":
        raise ValueError


def writes_while_it_explains(intent):
    intent.excluded.append("x")
    return {}


@pytest.mark.parametrize(
    ("declared", "promise"),
    [
        ({"reserve": lambda *_: "a slot"}, "test_what_it_holds_can_be_given_back_however_the_attempt_ended"),
        ({"reserve": lambda *_: Refusal(5)}, "test_what_it_holds_can_be_given_back_however_the_attempt_ended"),
        (
            {"reserve": lambda *_: Held(refuses_to_be_cut)},
            "test_what_it_holds_can_be_given_back_however_the_attempt_ended",
        ),
        (
            {"reserve": lambda *_: Held(lambda _: "thanks")},
            "test_what_it_holds_can_be_given_back_however_the_attempt_ended",
        ),
        (
            {"reserve": lambda *_: Held(headers={"Set-Cookie": "a=b"})},
            "test_what_it_holds_can_be_given_back_however_the_attempt_ended",
        ),
        (
            {"reserve": lambda *_: Held(listener=lambda text: text.encode("ascii"))},
            "test_what_it_holds_can_be_given_back_however_the_attempt_ended",
        ),
        ({"explain": lambda _: {"why": object()}}, "test_it_explains_itself_in_json_and_touches_nothing"),
        ({"explain": writes_while_it_explains}, "test_it_explains_itself_in_json_and_touches_nothing"),
        ({"would_refuse": lambda *_: "no"}, "test_it_explains_itself_in_json_and_touches_nothing"),
        (
            {"measures": lambda: [owls("owls")]},
            "test_its_measures_are_named_after_its_plugin_and_can_be_asked_for_again",
        ),
        (
            {"measures": lambda: [owls("nexus_bad_owls")] * 2},
            "test_its_measures_are_named_after_its_plugin_and_can_be_asked_for_again",
        ),
        (
            {"measures": lambda: [owls(f"nexus_bad_owls_{next(turn)}")]},
            "test_its_measures_are_named_after_its_plugin_and_can_be_asked_for_again",
        ),
        ({"reconcile": lambda _: "done"}, "test_nexus_has_no_objection_to_it"),
        ({"reconcile": lambda intent: setattr(intent, "headers", {})}, "test_nexus_has_no_objection_to_it"),
    ],
)
def test_a_stage_that_does_one_thing_wrong_is_caught(declared, promise):
    class Bad(Reconciler):
        name = "bad"
        priority = 500
        on_error = "skip"

        def __init__(self):
            vars(self).update(declared)

        def reconcile(self, intent):
            pass

    class Contract(ReconcilerContract):
        def make(self):
            return Bad()

    with capture_logs(), pytest.raises((AssertionError, NexusError, ValueError)):
        run(getattr(Contract, promise), Contract(), ending=Ending.CLIENT_LEFT, usage=None)


def owls(name):
    return Measure(name=name, documentation="Owls.", type="gauge", samples=())


def run(check, contract, **given):
    if hasattr(check, "hypothesis"):
        # One intent is enough here, and spares the search for the smallest one.
        check.hypothesis.inner_test(
            contract,
            build=lambda _: make_intent(backends={"a": "local", "b": "cloud", "c": "cloud"}),
            **{
                name: value
                for name, value in given.items()
                if name in inspect.signature(check.hypothesis.inner_test).parameters
            },
        )
    else:
        check(contract)
