"""What holds for every fleet, every request and every set of stages."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.domain.backend import Status
from nexus.domain.naming import Naming
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.plugin_manager import Plugin
from nexus.routing.core_stages.analyze import Analyze
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.decision import Reject, Reserved, Saturated
from nexus.routing.decision_record import Request
from nexus.routing.model_names.resolution import resolve
from nexus.routing.pipeline import Pipeline
from nexus.routing.ranking.strategies import STRATEGIES
from nexus.routing.router import Router, Routing
from nexus.routing.stage.api import Hold, Reconciler, Refusal
from nexus.routing.stage.order import in_order
from nexus.testing.builders import CHAT, make_fleet, make_intent
from nexus.testing.strategies import MODELS, fleets, requirements

modestly = settings(max_examples=60, deadline=None)


class Arbitrary(Reconciler):
    """A stage that gives one verdict on each backend, chosen by its name alone."""

    name = "arbitrary"
    priority = 500

    def __init__(self, name, priority, verdicts):
        self.name, self.priority, self._verdicts = name, priority, verdicts

    def reconcile(self, intent):
        for backend in intent:
            match self._verdicts.get(backend.name):
                case "exclude":
                    intent.exclude(backend, stage=self.name, reason="for the test")
                case "avoid":
                    intent.avoid(backend, stage=self.name, reason="for the test")
                case "weigh":
                    intent.weigh(backend, 0.5, stage=self.name, reason="for the test")


class Holding(Reconciler):
    """A stage that counts its holds and sometimes refuses."""

    name = "holding"
    priority = 300

    def __init__(self, answers):
        self._answers = answers
        self.held = 0

    def reconcile(self, intent):
        """Exclude no backend."""

    def reserve(self, intent, backend):
        answer = self._answers.pop() if self._answers else "hold"
        if answer != "hold":
            return Refusal("for the test", is_saturation=answer == "wait")
        self.held += 1
        return Held(self)


class Held(Hold):
    def __init__(self, stage):
        self._stage = stage

    def settle(self, outcome):
        self._stage.held -= 1


stages = st.lists(
    st.builds(
        Arbitrary,
        st.sampled_from("abcdefgh"),
        st.integers(-5, 1500),
        st.dictionaries(
            st.sampled_from([f"gpu-{number}" for number in range(6)]), st.sampled_from(["exclude", "avoid", "weigh"])
        ),
    ),
    max_size=5,
    unique_by=lambda stage: stage.name,
)


def contributed(stages):
    return [(Plugin(f"plugin-{stage.name}", "dist", "1", {}), stage) for stage in stages]


def pipeline_of(stages, **operator):
    return Pipeline(in_order((Analyze(), Schedule()), contributed(stages), **operator))


def intent_of(backends, asked):
    return make_intent(backends=backends, model=asked.model, requirements=asked)


@modestly
@given(fleets(), requirements(), stages)
def test_pipelines_only_narrow(backends, asked, stages):
    intent = intent_of(backends, asked)
    before = intent.candidates

    pipeline_of(stages).run(intent)

    assert intent.candidates <= before
    assert before - intent.candidates == {verdict.backend for verdict in intent.excluded}
    assert all(verdict.reason and verdict.stage for verdict in intent.excluded)


@modestly
@given(fleets(), requirements(), stages, st.randoms(use_true_random=False))
def test_any_order_of_the_stages_leaves_the_same_survivors(backends, asked, stages, chance):
    names = ["analyze", "schedule", *(stage.name for stage in stages)]
    one, other = intent_of(backends, asked), intent_of(backends, asked)

    pipeline_of(stages).run(one)
    pipeline_of(stages, priorities={name: chance.randrange(100) for name in names}).run(other)

    assert one.candidates == other.candidates
    assert {v.backend for v in one.avoided} & one.candidates == {v.backend for v in other.avoided} & other.candidates


@modestly
@given(stages, st.randoms(use_true_random=False))
def test_the_order_in_which_stages_are_found_never_matters(stages, chance):
    built_in, shuffled = [Analyze(), Schedule()], contributed(stages)
    places = in_order(built_in, shuffled)
    chance.shuffle(built_in)
    chance.shuffle(shuffled)

    assert in_order(built_in, shuffled) == places


@modestly
@given(fleets(), requirements(), stages)
def test_stages_that_only_observe_change_nothing(backends, asked, stages):
    plain, observed = intent_of(backends, asked), intent_of(backends, asked)

    pipeline_of([]).run(plain)
    pipeline_of(stages, observe=[stage.name for stage in stages]).run(observed)

    assert plain.candidates == observed.candidates
    assert (plain.excluded, plain.avoided, plain.weights) == (observed.excluded, observed.avoided, observed.weights)


@modestly
@given(
    fleets(),
    st.lists(requirements(), max_size=4),
    st.sampled_from(sorted(STRATEGIES)),
    st.lists(st.sampled_from(["hold", "wait", "refuse"]), max_size=10),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["next", "settle", "settle twice"])), max_size=25),
)
def test_reservations_are_balanced_whatever_happens(backends, asked, strategy, answers, steps):
    schedule, holding, fleet = Schedule(strategy, chance=Random(0)), Holding(answers), make_fleet(*backends)
    in_order_ = in_order((Analyze(), schedule), [(Plugin("p", "d", "1", {}), holding)])
    router = Router(pipeline=Pipeline(in_order_), schedule=schedule, fallbacks={MODELS[0]: MODELS[1:]})
    before = [(b.load.in_flight, b.load.probing) for b in fleet.backends]
    searches = [begin(router, one) for one in asked]
    reserved = []

    for which, what in steps:
        if what == "next" and searches:
            answer = searches[which % len(searches)].next(fleet)
            reserved += [answer] if isinstance(answer, Reserved) else []
            assert isinstance(answer, Reserved | Saturated | Reject)
        elif reserved:
            settle(reserved.pop(), times=2 if what == "settle twice" else 1)
        assert holding.held == len(reserved)
        taken = sum(b.load.in_flight for b in fleet.backends) - sum(in_flight for in_flight, _ in before)
        assert taken == len(reserved)
    for one in reserved:
        settle(one, times=1)

    assert [(b.load.in_flight, b.load.probing) for b in fleet.backends] == before
    assert holding.held == 0


@modestly
@given(fleets(), requirements(), stages)
def test_a_search_ends(backends, asked, stages):
    fleet = make_fleet(*backends)
    schedule = Schedule()
    places = in_order((Analyze(), schedule), contributed(stages))
    search = begin(Router(pipeline=Pipeline(places), schedule=schedule, fallbacks={MODELS[0]: MODELS[1:]}), asked)

    answers = [search.next(fleet) for _ in range(len(backends) * len(MODELS) + 1)]

    assert not isinstance(answers[-1], Reserved)
    asked_for = [(a.backend.name, a.model) for a in answers if isinstance(a, Reserved)]
    assert len(asked_for) == len(set(asked_for))


@modestly
@given(fleets(), requirements())
def test_only_what_is_certain_refuses_and_the_healthy_are_asked_first(backends, asked):
    fleet = make_fleet(*backends)
    schedule = Schedule()
    search = begin(Router(pipeline=Pipeline(in_order((Analyze(), schedule))), schedule=schedule), asked)

    answers = [search.next(fleet) for _ in range(len(backends) + 1)]

    tried = [answer.backend for answer in answers if isinstance(answer, Reserved)]
    were_healthy = [backend.status is Status.HEALTHY for backend in tried]
    assert were_healthy == sorted(were_healthy, reverse=True)
    last = answers[-1]
    if isinstance(last, Reject):
        out = {verdict.backend for verdict in last.reasons if verdict.stage == "schedule"}
        certain = {
            b.name
            for b in backends
            if b.status is Status.DRAINING or (b.status is not Status.HEALTHY and (b.is_refusing or b.is_replaced))
        }
        assert out <= certain


aliases = st.dictionaries(
    st.sampled_from("abcdef"),
    st.sampled_from(["a", "b", "c", "d", "e", "f", *MODELS])
    | st.lists(st.sampled_from("abcdef"), max_size=3).map(tuple),
    max_size=6,
)


@modestly
@given(aliases, fleets(), st.sampled_from(["a", "b", *MODELS]))
def test_aliases_never_loop(aliases, backends, model):
    fleet = make_fleet(*backends)

    resolution = resolve(model, fleet, Naming.of(aliases))

    assert resolution.names[0] == model
    for backend, own_name in resolution.candidates.values():
        assert own_name in backend.models
    if fleet.having(model):
        assert set(resolution.candidates) == {backend.name for backend in fleet.having(model)}


def begin(router, asked):
    return Routing(router, Request(id="r", endpoint=CHAT, requirements=asked, headers={}, received_unix_s=0.0))


def settle(reserved, *, times):
    outcome = AttemptOutcome(
        backend=reserved.backend.name, backend_id=reserved.backend.id, model=reserved.model, ending=Ending.FINISHED
    )
    for _ in range(times):
        for hold in reserved.holds:
            hold.settle(outcome)
