"""The built-in last stage: who is healthy, who comes first, who gets the slot."""

from collections import Counter
from random import Random

import pytest

from nexus.config.schema import WeightsConfig
from nexus.domain.backend import BackendLoad, Breaker, Status
from nexus.routing.reconciler import Refusal
from nexus.routing.stages.schedule import Schedule
from nexus.testing.builders import make_backend, make_intent


def load(in_flight=0, latency_ms=None, *, probing=False):
    return BackendLoad(in_flight=in_flight, latency_ms=latency_ms, probing=probing)


def ranked(schedule, *backends, weights=()):
    intent = make_intent(backends=backends)
    schedule.reconcile(intent)
    for name, factor in weights:
        intent.weigh(next(b for b in backends if b.name == name), factor, stage="test", reason="for the test")
    return schedule.rank(intent)


def names(ranking):
    return [choice.backend.name for choice in ranking]


class TestHealth:
    @pytest.mark.parametrize("status", [s for s in Status if s is not Status.HEALTHY])
    def test_only_the_healthy_survive(self, status):
        assert ranked(Schedule(), make_backend(status=status)) == []

    @pytest.mark.parametrize(
        ("state", "is_avoided"),
        [
            ({"breaker": Breaker.CLOSED}, False),
            ({"breaker": Breaker.OPEN}, True),
            ({"breaker": Breaker.HALF_OPEN}, False),
            ({"breaker": Breaker.HALF_OPEN, "load": load(probing=True)}, True),
            ({"is_cooling": True}, True),
        ],
    )
    def test_who_has_been_failing_comes_last(self, state, is_avoided):
        ranking = ranked(Schedule(), make_backend("first", priority=0, **state), make_backend("second", priority=100))

        assert names(ranking) == (["second", "first"] if is_avoided else ["first", "second"])


class TestSmart:
    @pytest.mark.parametrize(
        ("priority", "in_flight", "latency_ms", "expected"),
        [(1, 0, 50, 98), (0, 0, 0, 100), (100, 100, 1000, 0), (100, 500, 99999, 0), (50, 0, None, 75)],
    )
    def test_the_score_weighs_priority_load_and_latency(self, priority, in_flight, latency_ms, expected):
        backend = make_backend(priority=priority, load=load(in_flight, latency_ms))

        assert [choice.score for choice in ranked(Schedule(), backend)] == [expected]

    def test_the_weights_are_the_operator_s(self):
        only_load = Schedule("smart", WeightsConfig(priority=0, load=100, latency=0))

        ranking = ranked(
            only_load, make_backend("a", priority=0, load=load(9)), make_backend("b", priority=99, load=load(1))
        )

        assert names(ranking) == ["b", "a"]

    def test_what_stages_weigh_is_multiplied(self):
        ranking = ranked(
            Schedule(), make_backend("a", priority=0), make_backend("b", priority=50), weights=[("a", 0.5), ("a", 0.5)]
        )

        assert [(c.backend.name, c.score) for c in ranking] == [("b", 75), ("a", 25)]

    def test_the_reason_shows_the_score(self):
        schedule = Schedule()
        ranking = ranked(schedule, make_backend("a", priority=0), make_backend("b", priority=50))

        assert schedule.reason(ranking[0], 2) == "highest_score:a:100.00"
        assert schedule.reason(ranking[0], 1) == "only_healthy_backend"


@pytest.mark.parametrize("strategy", ["smart", "least_loaded", "priority_only", "random"])
def test_equals_are_told_apart_by_chance(strategy):
    schedule = Schedule(strategy, chance=Random(1))
    backends = [make_backend(name) for name in "abcd"]

    firsts = Counter(names(ranked(schedule, *backends))[0] for _ in range(400))

    assert set(firsts) == set("abcd")
    assert min(firsts.values()) > 60


def test_least_loaded_looks_at_the_part_of_the_slots_in_use():
    schedule = Schedule("least_loaded")
    backends = [
        make_backend("small", max_in_flight=4, load=load(2)),
        make_backend("big", max_in_flight=64, load=load(9)),
    ]

    ranking = ranked(schedule, *backends)

    assert names(ranking) == ["big", "small"]
    assert schedule.reason(ranking[0], 2) == "least_loaded:big:9/64"


def test_priority_only_looks_at_nothing_else():
    schedule = Schedule("priority_only")

    ranking = ranked(schedule, make_backend("a", priority=2), make_backend("b", priority=1, load=load(60)))

    assert names(ranking) == ["b", "a"]
    assert schedule.reason(ranking[0], 2) == "priority:b:1"


def test_random_shows_who_it_was():
    schedule = Schedule("random", chance=Random(1))
    ranking = ranked(schedule, make_backend("a"), make_backend("b"))

    assert schedule.reason(ranking[0], 2) == f"random:{ranking[0].backend.name}"


class TestRoundRobin:
    @pytest.fixture
    def take(self):
        schedule = Schedule("round_robin")

        def take(*backends, model="llama3"):
            intent = make_intent(backends=backends, model=model)
            best = schedule.rank(intent)[0]
            schedule.reserve(intent, best.backend)
            return best.backend.name, schedule.reason(best, len(backends))

        return take

    def test_one_after_the_other(self, take):
        backends = [make_backend(name) for name in "bca"]

        assert [take(*backends) for _ in range(4)] == [
            ("a", "round_robin:index_0"),
            ("b", "round_robin:index_1"),
            ("c", "round_robin:index_2"),
            ("a", "round_robin:index_0"),
        ]

    def test_each_model_has_its_own_turn(self, take):
        backends = [make_backend(name, models=["llama3", "qwen3"]) for name in "ab"]

        assert [take(*backends, model=m)[0] for m in ("llama3", "qwen3", "llama3", "qwen3")] == ["a", "a", "b", "b"]

    def test_the_turn_survives_that_backends_come_and_go(self, take):
        a, b, c = (make_backend(name) for name in "abc")

        assert [take(a, b, c)[0], take(b, c)[0], take(a, b, c)[0], take(a, b)[0]] == ["a", "b", "c", "a"]

    def test_ranking_alone_takes_no_turn(self):
        schedule = Schedule("round_robin")
        backends = [make_backend(name) for name in "ab"]

        assert {names(ranked(schedule, *backends))[0] for _ in range(3)} == {"a"}


class TestSlots:
    def test_a_backend_at_its_limit_refuses_and_waiting_helps(self):
        backend = make_backend(max_in_flight=1, load=load(1))

        refusal = Schedule().reserve(make_intent(backends=[backend]), backend)

        assert isinstance(refusal, Refusal)
        assert refusal.is_saturation
        assert backend.load.in_flight == 1

    def test_a_slot_is_given_back_exactly_once(self):
        backend = make_backend(load=load(3))
        slot = Schedule().reserve(make_intent(backends=[backend]), backend)

        slot.settle(None)
        slot.settle(None)

        assert backend.load.in_flight == 3

    def test_a_half_open_breaker_is_tried_by_one_request(self):
        backend = make_backend(breaker=Breaker.HALF_OPEN)
        intent = make_intent(backends=[backend])
        probe = Schedule().reserve(intent, backend)
        other = Schedule().reserve(intent, backend)

        other.settle(None)
        assert backend.load.probing

        probe.settle(None)
        assert (backend.load.probing, backend.load.in_flight) == (False, 0)
