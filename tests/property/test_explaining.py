"""An explanation predicts the next decision and does not change it."""

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from nexus.domain.naming import Naming
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.plugin_manager import Plugin
from nexus.routing.core_stages.analyze import Analyze
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.decision import Reserved
from nexus.routing.decision_record import Request
from nexus.routing.explain.build import as_explanation, decided
from nexus.routing.explain.model import Explanation
from nexus.routing.explain.text import as_text
from nexus.routing.pipeline import Pipeline
from nexus.routing.ranking.strategies import STRATEGIES
from nexus.routing.router import Router, Routing
from nexus.routing.stage.api import Hold, Reconciler, Refusal
from nexus.routing.stage.order import in_order
from nexus.testing.builders import CHAT, make_fleet
from nexus.testing.strategies import MODELS, fleets, requirements
from tests.support.dry_runs import explain

modestly = settings(max_examples=60, deadline=None)
names = st.sampled_from([f"gpu-{number}" for number in range(6)])


@pytest.fixture(scope="module", autouse=True)
def quiet_log():
    """Capture the log: to print each traceback of a stage that fails takes longer than all else."""
    with capture_logs():
        yield


class Opinion(Reconciler):
    """Gives one verdict on each backend, by its name, and refuses to hold for some."""

    name = "opinion"
    priority = 500

    def __init__(self, verdicts, refusals):
        self._verdicts, self._refusals = verdicts, refusals
        self.held = 0

    def reconcile(self, intent):
        for backend in intent:
            match self._verdicts.get(backend.name):
                case "exclude":
                    intent.exclude(backend, stage=self.name, reason="for the test", action="another test")
                case "avoid":
                    intent.avoid(backend, stage=self.name, reason="for the test")
                case "weigh":
                    intent.weigh(backend, 0.25, stage=self.name, reason="for the test")
                case "fail":
                    raise ValueError(backend.name)

    def would_refuse(self, intent, backend):
        how = self._refusals.get(backend.name)
        return None if how is None else Refusal("for the test", is_saturation=how == "wait")

    def reserve(self, intent, backend):
        refusal = self.would_refuse(intent, backend)
        if refusal is not None:
            return refusal
        self.held += 1
        return Held(self)

    def explain(self, intent):
        return {"candidates": sorted(intent.candidates)}


class Held(Hold):
    """A hold of the opinion."""

    def __init__(self, opinion):
        self._opinion = opinion

    def settle(self, outcome):
        self._opinion.held -= 1


@st.composite
def routers(draw):
    opinion = Opinion(
        draw(st.dictionaries(names, st.sampled_from(["exclude", "avoid", "weigh", "fail"]), max_size=3)),
        draw(st.dictionaries(names, st.sampled_from(["wait", "no"]), max_size=3)),
    )
    schedule = Schedule(draw(st.sampled_from(sorted(STRATEGIES))), chance=Random(draw(st.integers(0, 99))))
    places = in_order((Analyze(), schedule), [(Plugin("opinion", "dist", "1", {}), opinion)])
    router = Router(
        pipeline=Pipeline(places),
        schedule=schedule,
        naming=Naming({"any": MODELS}),
        fallbacks={MODELS[0]: MODELS[1:]} if draw(st.booleans()) else {},
    )
    return router, opinion


def asked_of(wanted):
    return Request("r", CHAT, wanted, {}, 0.0)


def begin(router, wanted):
    return Routing(router, Request(id="r", endpoint=CHAT, requirements=wanted, headers={}, received_unix_s=0.0))


def loads(fleet):
    return [(b.load.in_flight, b.load.probing, b.load.requests_total, b.load.latency_ms) for b in fleet.backends]


def settle(decision):
    if isinstance(decision, Reserved):
        outcome = AttemptOutcome(
            backend=decision.backend.name, backend_id="1", model=decision.model, ending=Ending.FINISHED
        )
        for hold in decision.holds:
            hold.settle(outcome)


@modestly
@given(routers(), fleets(), st.lists(requirements(), min_size=1, max_size=4))
def test_what_would_be_decided_is_what_is_decided_next(made, backends, asked):
    router, _ = made
    fleet = make_fleet(*backends)

    for wanted in asked:
        told = explain(router, asked_of(wanted), fleet).decision
        found = begin(router, wanted).next(fleet)

        assert told.decision == decided(found)
        if isinstance(found, Reserved):
            assert (told.backend, told.model) == (found.backend.name, found.model)
            assert (told.fallback_model, told.route_reason) == (found.fallback_model, found.route_reason)
        settle(found)


@modestly
@given(routers(), fleets(), requirements(), st.integers(1, 4))
def test_explaining_changes_nothing(made, backends, wanted, times):
    router, opinion = made
    fleet = make_fleet(*backends)
    before, chance = loads(fleet), router.schedule._chance.getstate()
    first = explain(router, asked_of(wanted), fleet)

    for _ in range(times):
        assert explain(router, asked_of(wanted), fleet).decision == first.decision

    assert loads(fleet) == before
    assert router.schedule._chance.getstate() == chance
    assert opinion.held == 0


@modestly
@given(routers(), fleets(), requirements())
def test_every_backend_that_is_not_asked_has_its_sentence(made, backends, wanted):
    router, _ = made

    told = explain(router, asked_of(wanted), make_fleet(*backends))

    assert {reason.backend for reason in told.why_not} == {b.name for b in backends} - {told.decision.backend}
    assert all(reason.why for reason in told.why_not)
    assert as_text(told)
    assert msgspec.json.decode(msgspec.json.encode(told), type=Explanation) == told


@modestly
@given(routers(), fleets(), requirements(), st.integers(1, 6))
def test_a_record_is_as_it_was_whatever_comes_after(made, backends, wanted, rounds):
    router, _ = made
    fleet = make_fleet(*backends)
    search = begin(router, wanted)
    found = [search.next(fleet) for _ in range(rounds)]
    told = as_explanation(search.record)

    for decision in found:
        settle(decision)
    for backend in fleet.backends:
        for _ in range(7):
            backend.load.acquire()
        backend.load.observe_request(1234)
    router.resolve("elsewhere", make_fleet())

    assert as_explanation(search.record) == told
    assert [r.decision.backend for r in told.rounds if r.decision.decision == "route"] == [
        decision.backend.name for decision in found if isinstance(decision, Reserved)
    ]
