"""A ranking has the order of a sort, whenever it is looked at, and follows what moves."""

from random import Random
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.domain.engine_report import EngineReport
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.intent import Verdict
from nexus.routing.ranking.judged import RememberedJudgement, factors_of, judged
from nexus.routing.ranking.ranking import ListedScores, Ranking
from nexus.routing.ranking.scoring import Ranked
from nexus.testing.builders import MODEL, make_backend, make_fleet, make_intent
from nexus.testing.routing import begin, give_back, make_router

NAMES = [f"gpu-{number}" for number in range(6)]

some_names = st.frozensets(st.sampled_from(NAMES))


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0, 50.0, 98.5]), st.floats(0, 1)), max_size=6),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0.0, 0.5, 1.0])),
    some_names,
    some_names,
)
def test_it_is_in_the_order_of_a_sort(drawn, factors, avoided, last_resorts):
    listed = [Ranked(make_backend(NAMES[at]), MODEL, score, tie=tie) for at, (score, tie) in enumerate(drawn)]

    places = {ranked.backend.name: at for at, ranked in enumerate(listed)}
    ranking = Ranking(ListedScores(listed), judged(factors, avoided, last_resorts, places))

    def place(ranked):
        name = ranked.backend.name
        return name in last_resorts, name in avoided, -ranked.score * factors.get(name, 1.0), ranked.tie

    expected = [ranked.backend.name for ranked in sorted(listed, key=place)]
    assert [ranking[at].backend.name for at in range(len(ranking))] == expected
    assert [ranked.backend.name for ranked in ranking] == expected
    assert [ranked.backend.name for ranked in ranking[1:]] == expected[1:]
    assert [ranked.is_avoided for ranked in ranking] == [name in avoided for name in expected]
    assert [ranked.score for ranked in ranking] == [
        ranked.score * factors.get(ranked.backend.name, 1.0) for ranked in sorted(listed, key=place)
    ]


some_verdicts = st.lists(
    st.builds(
        lambda name, factor, reason: Verdict(name, "test", reason, factor=factor),
        st.sampled_from([*NAMES, "elsewhere"]),
        st.sampled_from([0.0, 0.5, 1.0]),
        st.sampled_from("ab"),
    ),
    max_size=4,
)


@given(st.lists(st.tuples(some_verdicts, some_verdicts, some_names), max_size=6))
def test_what_stages_have_said_is_found_as_if_nothing_was_remembered(said):
    remembered, places = RememberedJudgement(), {name: at for at, name in enumerate(NAMES)}
    for weights, avoided, last_resorts in [each for each in said for _ in range(2)]:
        fresh = judged(factors_of(weights), {verdict.backend for verdict in avoided}, last_resorts, places)

        assert remembered.of(weights, avoided, last_resorts, places) == fresh
        weights.append(Verdict(NAMES[0], "test", "a later verdict", factor=0.5))


@pytest.mark.parametrize("count", [2, 12])
def test_the_rest_of_an_earlier_ranking_is_as_it_was(count):
    router = make_router()
    fleet = make_fleet(*(make_backend(f"gpu-{number}") for number in range(count)))
    first = begin(router)
    give_back(first.next(fleet))
    (considered,) = first.record.rounds[0].models
    twin = make_router()
    same = begin(twin)
    give_back(same.next(make_fleet(*(make_backend(f"gpu-{number}") for number in range(count)))))
    (seen_at_once,) = same.record.rounds[0].models
    expected = [(ranked.backend.name, ranked.score, ranked.tie) for ranked in seen_at_once.ranking]

    for _ in range(20):
        begin(router).next(fleet)

    assert [(ranked.backend.name, ranked.score, ranked.tie) for ranked in considered.ranking] == expected


class TestWhatMoves:
    """The same candidates are ranked again after something has happened."""

    @pytest.fixture(params=[2, 12])
    def backends(self, request):
        return [make_backend(f"gpu-{number}", max_in_flight=64) for number in range(request.param)]

    @pytest.fixture
    def scores(self, backends):
        schedule, fleet_intent = Schedule(chance=Random(1)), make_intent(backends=backends)

        def ask():
            intent = fleet_intent.shadow()
            return {ranked.backend.name: ranked.score for ranked in schedule.rank(intent)}

        ask()
        return ask

    def test_a_request_in_flight_counts(self, backends, scores):
        backends[0].load.acquire()

        found = scores()

        assert found["gpu-0"] < found["gpu-1"]

    def test_requests_that_an_engine_reports_count_and_so_does_the_next_report(self, backends, scores):
        now = monotonic()
        for running in (8, 4, 0):
            backends[0].load.tell(EngineReport(at=now, due_at=now + 60, running=running, waiting=0))

            found = scores()

            assert (found["gpu-0"] < found["gpu-1"]) is (running > 0)

    def test_a_failure_counts(self, backends, scores):
        backends[0].load.model(MODEL).fail(monotonic())

        found = scores()

        assert found["gpu-0"] < found["gpu-1"]

    def test_a_learned_capacity_counts(self, backends, scores):
        for backend in backends:
            backend.load.acquire()
        backends[0].load.model(MODEL).learned.limit = 1.0
        backends[1].load.model(MODEL).learned.limit = 60.0

        found = scores()

        assert found["gpu-0"] < found["gpu-1"]
