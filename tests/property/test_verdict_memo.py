"""Remembered verdicts are those that the stages would give, whatever requests and fleets come."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from nexus.plugin_manager import Plugin
from nexus.routing.core_stages.analyze import Analyze
from nexus.routing.core_stages.residency import Residency
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.pipeline import Pipeline
from nexus.routing.router import Router
from nexus.routing.stage.api import Reconciler
from nexus.routing.stage.order import in_order
from nexus.testing.builders import make_fleet
from nexus.testing.routing import begin
from nexus.testing.strategies import MODELS, fleets, requirements

VERBS = ("exclude", "avoid", "weigh", "nothing")

modestly = settings(max_examples=60, deadline=None)


class ByBackend(Reconciler):
    """Judges each backend by its name, and by a fact of the request if it declares one."""

    priority = 500

    def __init__(self, name, priority, verbs, depends_on):
        self.name = name
        self.priority = priority
        self.verbs = verbs
        self.depends_on = depends_on
        self.counted = []

    def reconcile(self, intent):
        shift = 1 if "stream" in (self.depends_on or ()) and intent.requirements.is_stream else 0
        for backend in intent:
            verb = self.verbs[(int(backend.name[4:]) + shift) % len(self.verbs)]
            reason = f"{self.name} judges {intent.requested_model} on {backend.name}"
            if verb == "weigh":
                intent.weigh(backend, 0.5, stage=self.name, reason=reason)
            elif verb != "nothing":
                getattr(intent, verb)(backend, stage=self.name, reason=reason)

    def count(self, intent):
        self.counted.append([*intent.excluded, *intent.avoided, *intent.weights])


class Forgetful(Router):
    """A router that judges each request by itself."""

    def __init__(self, **parts):
        super().__init__(**parts)
        run = self.pipeline.run
        self.pipeline.run = lambda intent, alike=None: run(intent)


stages = st.lists(
    st.tuples(
        st.integers(-5, 1500),
        st.lists(st.sampled_from(VERBS), min_size=1, max_size=3),
        st.sampled_from([None, frozenset(), frozenset({"stream"}), frozenset({"capabilities", "context"})]),
    ),
    max_size=4,
)


def router_of(kind, drawn, observe):
    made = [ByBackend(f"stage-{at}", *each) for at, each in enumerate(drawn)]
    schedule = Schedule(chance=Random(0), clock=lambda: 1000.0)
    contributed = [(Plugin(stage.name, stage.name, "1", {}), stage) for stage in made]
    built_in = (Analyze(), Residency(lambda: 1000.0), schedule)
    observed = [stage.name for stage in made[:1]] if observe else []
    pipeline = Pipeline(in_order(built_in, contributed, observe=observed), lambda: 0.0, policies=())
    return kind(pipeline=pipeline, schedule=schedule, fallbacks={MODELS[0]: MODELS[1:]}), made


def shown(search):
    """Return all that a search decided, without what differs between equal routers."""
    return [
        [
            (
                model.excluded,
                model.avoided,
                model.weights,
                model.observed,
                model.spent_s,
                [(ranked.backend.name, ranked.score, ranked.is_avoided) for ranked in model.ranking],
            )
            for model in found.models
        ]
        for found in search.record.rounds
    ]


def counted(router):
    return [
        (s.counters.exclusions_total, sum(s.counters.durations.counts), dict(s.counters.observed))
        for s in router.pipeline.stages
    ]


@modestly
@given(
    st.lists(fleets(max_size=5), min_size=1, max_size=2),
    st.lists(requirements(), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(1, 3)), min_size=1, max_size=12),
    stages,
    st.booleans(),
)
def test_the_same_is_decided_shown_and_counted_with_and_without_memory(drawn_fleets, asked, searches, drawn, observe):
    remembering, made = router_of(Router, drawn, observe)
    forgetful, others = router_of(Forgetful, drawn, observe)
    snapshots = [make_fleet(*backends) for backends in drawn_fleets]
    # Each router needs loads of its own: reserving changes them.
    twins = [make_fleet(*(replace(b, load=_copy(b.load)) for b in backends)) for backends in drawn_fleets]

    for which, fleet, tries in searches:
        wanted = asked[which % len(asked)]
        one = begin(remembering, requirements=wanted)
        other = begin(forgetful, requirements=wanted)
        for _ in range(tries):
            one.next(snapshots[fleet % len(snapshots)])
            other.next(twins[fleet % len(twins)])

        assert shown(one) == shown(other)
    assert counted(remembering) == counted(forgetful)
    assert [stage.counted for stage in made] == [stage.counted for stage in others]


def _copy(load):
    return type(load)(
        in_flight=load.in_flight,
        requests_total=load.requests_total,
        latency_ms=load.latency_ms,
        probing=load.probing,
    )
