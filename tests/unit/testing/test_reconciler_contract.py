"""The contract notices each sort of stage that breaks it."""

import socket
import time
from itertools import count

import pytest

from nexus.routing.reconciler import Reconciler
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


def run(check, contract):
    if hasattr(check, "hypothesis"):
        # One intent is enough here, and spares the search for the smallest one.
        check.hypothesis.inner_test(
            contract, build=lambda _: make_intent(backends={"a": "local", "b": "cloud", "c": "cloud"})
        )
    else:
        check(contract)
