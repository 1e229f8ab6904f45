"""Stages are called as seldom as they declare, and as often as they must be."""

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from nexus.domain.backend import Status
from nexus.domain.model import ModelFacts
from nexus.errors import PluginError
from nexus.routing.core_stages.analyze import Analyze
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.pipeline import Pipeline
from nexus.routing.policies import Policies, Policy
from nexus.routing.router import Router
from nexus.routing.stage.api import Hold, Reconciler
from nexus.routing.stage.order import in_order
from nexus.testing.builders import make_backend, make_fleet, make_intent


class Probe(Reconciler):
    """Says what a test declares, and records its calls."""

    name = "probe"
    priority = 500
    on_error = "skip"

    def __init__(self, **declared):
        self.calls = []
        vars(self).update(declared)

    def reconcile(self, intent):
        self.calls.append(("reconcile", intent.requested_model))

    def reserve(self, intent, backend):
        self.calls.append(("reserve", backend.name))

    def names(self):
        return [name for name, _ in self.calls]


class Idle(Probe):
    def is_idle(self, policies):
        return not policies


class Quiet(Probe):
    def is_quiet(self, snapshot, requirements):
        return snapshot.version < 100


class Claiming(Probe):
    def may_hold(self, backend, model):
        self.calls.append(("may_hold", backend.name))
        return backend.name == "gpu-1"


class Choosy(Probe):
    def may_judge(self, backend, model):
        return backend.name == "gpu-3"


class Counting(Probe):
    depends_on = frozenset()

    def reconcile(self, intent):
        super().reconcile(intent)
        for backend in intent:
            if backend.name == "gpu-2":
                intent.exclude(backend, stage=self.name, reason="for the test")

    def count(self, intent):
        self.calls.append(("count", [verdict.backend for verdict in intent.excluded]))


class Measuring(Counting):
    """Has other verdicts from time to time."""

    measured = 0

    def version(self, snapshot):
        if isinstance(self.measured, Exception):
            raise self.measured
        return self.measured


@pytest.fixture
def routed(plugin):
    """Return a function that makes a router of a stage, and the fleet that it routes to."""

    def make(*stages, policies=(), observe=(), fallbacks=None):
        schedule = Schedule()
        places = in_order((Analyze(), schedule), [(plugin(s.name), s) for s in stages], observe=observe)
        decoded = Policies(policies)
        pipeline = Pipeline(places, policies=[policy.keys for policy in decoded.every])
        router = Router(pipeline=pipeline, schedule=schedule, policies=decoded, fallbacks=fallbacks)
        return router, make_fleet(make_backend("gpu-1"), make_backend("gpu-2"))

    return make


def test_an_idle_stage_is_called_only_for_requests_with_hints(routed, routing):
    probe = Idle()
    router, fleet = routed(probe)

    routing(router).next(fleet)
    without = probe.names()
    routing(router, headers={"x-nexus-flexible": "true"}).next(fleet)

    assert without == []
    assert probe.names() == ["reconcile", "reserve"]
    assert [stage.is_idle for stage in router.pipeline.stages] == [False, True, False]
    assert [sum(stage.counters.durations.counts) for stage in router.pipeline.stages] == [2, 2, 2]


def test_policies_keep_a_stage_from_being_idle(routed, routing):
    probe = Idle()
    router, fleet = routed(probe, policies=[Policy(0, "*", fallback_allowed=True, keys={})])

    routing(router).next(fleet)

    assert probe.names() == ["reconcile", "reserve"]


def test_a_quiet_stage_is_called_when_it_has_something_to_say(routed, routing):
    probe = Quiet()
    router, fleet = routed(probe)

    routing(router).next(fleet)
    quiet = probe.names()
    routing(router).next(make_fleet(*fleet.backends, version=100))

    assert quiet == []
    assert probe.names() == ["reconcile", "reserve"]


@pytest.mark.parametrize(
    ("declared", "marks", "is_called"),
    [
        (True, {}, False),
        (True, {"prompt_blocks": (1,)}, True),
        (True, {"conversation": 1}, True),
        (False, {}, True),
    ],
)
def test_a_stage_that_wants_marks_of_prompts_is_called_for_those_that_have_some(
    routed, routing, declared, marks, is_called
):
    probe = Probe(wants_prompt_blocks=declared)
    router, fleet = routed(probe)

    for _ in range(2):
        routing(router).next(fleet)
        before = len(probe.calls)
        routing(router, **marks).next(fleet)

    assert probe.names()[before:] == ["reconcile", "reserve"] * is_called


def test_a_stage_that_wants_marks_is_called_for_a_request_with_hints(routed, routing):
    probe = Probe(wants_prompt_blocks=True)
    router, fleet = routed(probe)

    routing(router, headers={"x-nexus-strict": "true"}).next(fleet)

    assert probe.names() == ["reconcile", "reserve"]


def test_whether_a_stage_may_hold_something_is_asked_again_with_another_version(routed, routing):
    class Holding(Measuring):
        def reconcile(self, intent):
            pass

        def may_hold(self, backend, model):
            return self.measured > 0

    probe = Holding()
    router, fleet = routed(probe)

    for measured in (0, 1, 1, 0):
        probe.measured = measured
        search = routing(router)
        search.next(fleet)
        # A second attempt is judged by itself, and asks for what may be held all the same.
        probe.measured = 1 - measured
        search.next(fleet)

    assert probe.names().count("reserve") == 4


def test_where_a_stage_may_not_hold_anything_it_is_not_asked(routed, routing):
    probe = Claiming()
    router, fleet = routed(probe)

    for _ in range(3):
        search = routing(router)
        search.next(fleet)
        search.next(fleet)

    assert sorted(probe.calls).count(("may_hold", "gpu-2")) == 1
    assert {name for call, name in probe.calls if call == "reserve"} == {"gpu-1"}


def test_where_a_stage_may_judge_no_candidate_it_is_not_called(routed, routing):
    probe = Choosy()
    router, fleet = routed(probe)

    for snapshot in (fleet, fleet, make_fleet(*fleet.backends, make_backend("gpu-3"))):
        routing(router).next(snapshot)
        routing(router).next(snapshot)

    # The first request to each snapshot, and each one to the last.
    assert probe.names().count("reconcile") == 3


def test_remembered_verdicts_are_applied_counted_and_recorded(routed, routing):
    probe = Counting()
    router, fleet = routed(probe)

    searches = [routing(router, prompt_tokens=tokens) for tokens in (10, 500, 20)]
    for search in searches:
        search.next(fleet)

    assert [call for call in probe.calls if call[0] != "reserve"] == [
        ("reconcile", "llama3"),
        *[("count", ["gpu-2"])] * 3,
    ]
    assert [[verdict.backend for verdict in search.record.rounds[0].models[0].excluded] for search in searches] == [
        ["gpu-2"]
    ] * 3
    (counters,) = [s.counters for s in router.pipeline.stages if s.place.name == "probe"]
    assert (counters.exclusions_total, sum(counters.durations.counts)) == (3, 3)


def test_where_a_stage_counts_nothing_it_is_not_asked_to(routed, routing):
    class Choosing(Counting):
        def may_count(self, intent):
            return intent.requested_model == "llama3"

    probe = Choosing()
    router, fleet = routed(probe)
    fleet = make_fleet(*fleet.backends, make_backend("gpu-3", models=["qwen3"]))

    for model in ("llama3", "qwen3") * 3:
        routing(router, model=model).next(fleet)

    # Each is counted when it is judged; of the others, those for one model.
    assert probe.names().count("count") == 4


@pytest.mark.parametrize(
    "other",
    [
        {"needs_tools": True},
        {"is_stream": True},
        {"headers": {"x-nexus-strict": "true"}},
        {"prompt_tokens": 8000},
    ],
)
def test_a_request_of_another_shape_is_judged_by_itself(routed, routing, other):
    probe = Counting(depends_on=frozenset({"capabilities", "context", "stream"}))
    router, _ = routed(probe)
    fleet = make_fleet(make_backend("gpu-1", models=[ModelFacts(name="llama3", context_length=4096)]))

    routing(router).next(fleet)
    routing(router, **other).next(fleet)

    assert probe.names().count("reconcile") == 2


@pytest.mark.parametrize(
    ("change", "calls"), [({"last_check_at": 5.0}, 1), ({"zone": "open"}, 2), ({"status": Status.UNHEALTHY}, 2)]
)
def test_a_change_of_the_fleet_ends_what_is_remembered_unless_it_is_only_a_probe(routed, routing, change, calls):
    probe = Counting()
    router, fleet = routed(probe)
    first, second = fleet.backends

    routing(router).next(fleet)
    routing(router).next(make_fleet(replace(first, **change), second))

    assert probe.names().count("reconcile") == calls


def test_a_backend_that_joins_ends_what_is_remembered(routed, routing):
    probe = Counting()
    router, fleet = routed(probe)

    routing(router).next(fleet)
    routing(router).next(make_fleet(*fleet.backends, make_backend("gpu-3")))

    assert probe.names().count("reconcile") == 2


def test_a_second_attempt_and_a_stage_that_observes_are_judged_each_time(routed, routing):
    probe, observing = Counting(), Counting()
    router, fleet = routed(probe)
    observer, _ = routed(observing, observe=["probe"])

    for _ in range(2):
        search = routing(router)
        search.next(fleet)
        search.next(fleet)
        routing(observer).next(fleet)

    assert [probe.names().count("reconcile"), observing.names().count("reconcile")] == [3, 2]


def test_an_exclusion_by_another_stage_lets_all_later_ones_judge_again(routed, routing):
    out = []

    class Moody(Probe):
        name = "moody"
        priority = 400

        def reconcile(self, intent):
            for backend in intent:
                if backend.name in out:
                    intent.exclude(backend, stage="moody", reason="for the test")

    probe = Counting()
    router, fleet = routed(Moody(), probe)

    routing(router).next(fleet)
    out.append("gpu-2")
    search = routing(router)
    search.next(fleet)

    assert probe.names().count("reconcile") == 2
    assert [(v.backend, v.stage) for v in search.record.rounds[0].models[0].excluded] == [("gpu-2", "moody")]


def test_what_is_remembered_ends_when_its_stage_is_switched_off(routed, routing):
    class Breaking(Counting):
        def reserve(self, intent, backend):
            raise ValueError

    router, fleet = routed(Breaking())

    with capture_logs():
        searches = [routing(router) for _ in range(7)]
        for search in searches:
            search.next(fleet)

    excluded = [len(search.record.rounds[0].models[0].excluded) for search in searches]
    assert excluded == [1, 1, 1, 1, 1, 0, 0]


def test_a_stage_that_cannot_say_whether_it_is_idle_is_called(routed, routing):
    class Broken(Probe):
        def is_idle(self, policies):
            raise ValueError

        def may_hold(self, backend, model):
            return "perhaps"

    probe = Broken()
    with capture_logs() as logs:
        router, fleet = routed(probe)
        routing(router).next(fleet)

    assert probe.names() == ["reconcile", "reserve"]
    assert [(line["event"], line["part"]) for line in logs] == [("stage_undeclared", "declare")]


def test_verdicts_are_remembered_until_the_stage_has_another_version(routed, routing):
    probe = Measuring()
    router, fleet = routed(probe)

    for measured in (0, 0, 1, 1, 0):
        probe.measured = measured
        routing(router).next(fleet)

    assert [name for name in probe.names() if name != "reserve"] == [
        *("reconcile", "count", "count"),
        *("reconcile", "count", "count"),
        *("reconcile", "count"),
    ]


def test_a_stage_whose_version_changes_while_it_judges_is_asked_again(routed, routing):
    class Hasty(Measuring):
        def reconcile(self, intent):
            super().reconcile(intent)
            self.measured += 1

    probe = Hasty()
    router, fleet = routed(probe)

    for _ in range(3):
        routing(router).next(fleet)

    assert probe.names().count("reconcile") == 3


def test_nothing_is_remembered_while_a_stage_fails_to_say_its_version(routed, routing):
    probe = Measuring(measured=ValueError("for the test"))
    router, fleet = routed(probe)

    with capture_logs() as logs:
        for _ in range(2):
            routing(router).next(fleet)

    assert probe.names().count("reconcile") == 2
    assert {log["event"] for log in logs} == {"stage_undeclared"}


def test_a_stage_that_depends_on_an_unknown_fact_is_refused(plugin):
    with pytest.raises(PluginError, match=r"depends_on = .*moon.*capabilities, context, stream"):
        in_order((), [(plugin("probe"), Probe(depends_on=frozenset({"moon"})))])


def test_counting_that_fails_changes_nothing(plugin):
    class Broken(Counting):
        def count(self, intent):
            raise ValueError

    pipeline = Pipeline(in_order((), [(plugin("probe"), Broken())]))
    intent = make_intent(backends={"gpu-1": "local", "gpu-2": "local"})

    with capture_logs() as logs:
        pipeline.run(intent)

    assert intent.candidates == {"gpu-1"}
    assert [line["event"] for line in logs] == ["stage_not_counted"]


def test_a_hold_of_an_idle_stage_that_may_hold_is_asked_for(routed, routing):
    class Paid(Idle):
        def may_hold(self, backend, model):
            return True

        def reserve(self, intent, backend):
            super().reserve(intent, backend)
            return Held()

    probe = Paid()
    router, fleet = routed(probe)

    routing(router).next(fleet)

    assert probe.names() == ["reserve"]


class Held(Hold):
    def settle(self, outcome):
        pass


def test_a_quiet_stage_whose_claim_fails_is_called_and_fails_there(routed, routing):
    class Broken(Quiet):
        def is_quiet(self, snapshot, requirements):
            raise ValueError("for the test")

    router, fleet = routed(Broken())

    with capture_logs() as logs:
        for _ in range(2):
            routing(router).next(fleet)

    assert [log["part"] for log in logs if log["event"] == "stage_skipped"] == ["reconcile"]
    assert router.pipeline.stages[1].counters.failures["reconcile"] == 2
