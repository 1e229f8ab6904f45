"""The strategies: how each scores backends, and which of equal ones comes first."""

from collections import Counter
from random import Random

import pytest

from nexus.config.schema import WeightsConfig
from nexus.domain.backend_load import BackendLoad
from nexus.domain.model_load import HALF_LIFE_S
from nexus.domain.request import Requirements
from nexus.routing.core_stages.schedule import Schedule
from nexus.testing.builders import MODEL, make_backend, make_intent

NOW = 1000.0
STREAMED = Requirements(model=MODEL, is_stream=True)


def load(in_flight=0, *, first_token_ms=None, measured=16):
    counters = BackendLoad(in_flight=in_flight)
    if first_token_ms is not None:
        for _ in range(measured):
            counters.model(MODEL).first_token.observe(first_token_ms / 1000, NOW)
    return counters


def smart(**options):
    return Schedule("smart", chance=Random(1), clock=lambda: NOW, **options)


def ranked(schedule, *backends):
    intent = make_intent(backends=backends, requirements=STREAMED)
    schedule.reconcile(intent)
    return schedule.rank(intent)


def names(ranking):
    return [choice.backend.name for choice in ranking]


class TestSmart:
    @pytest.mark.parametrize(
        ("priority", "in_flight", "expected"),
        [(0, 0, 100), (1, 0, 99.5), (50, 0, 75), (100, 0, 50), (0, 32, 85), (0, 64, 70), (0, 500, 70)],
    )
    def test_the_score_weighs_priority_and_the_share_of_the_limit_in_use(self, priority, in_flight, expected):
        backend = make_backend(priority=priority, max_in_flight=64, load=load(in_flight))

        assert [choice.score for choice in ranked(smart(), backend)] == [expected]

    @pytest.mark.parametrize(("in_flight", "expected"), [(0, 100), (2, 86.5), (4, 73), (514, 71.5), (1024, 70)])
    def test_where_slots_are_known_their_share_counts_and_then_that_of_the_limit(self, in_flight, expected):
        backend = make_backend(priority=0, slots=4, max_in_flight=1024, load=load(in_flight))

        assert [choice.score for choice in ranked(smart(), backend)] == [expected]

    @pytest.mark.parametrize(("slower", "expected"), [(1, 75), (2, 75), (4, 75), (6, 73.5), (300, 58.3)])
    def test_only_a_far_slower_backend_loses_points_by_its_latency(self, slower, expected):
        ranking = ranked(
            smart(),
            make_backend("a", load=load(first_token_ms=100)),
            make_backend("b", load=load(first_token_ms=100 * slower)),
        )

        assert {choice.backend.name: round(choice.score, 1) for choice in ranking} == {"a": 75, "b": expected}

    def test_latency_is_that_of_the_model_and_of_answers_of_the_same_form(self):
        slow_elsewhere = load(first_token_ms=100)
        for _ in range(16):
            slow_elsewhere.model("qwen3").first_token.observe(60.0, NOW)
            slow_elsewhere.model(MODEL).whole.observe(60.0, NOW)

        ranking = ranked(
            smart(), make_backend("a", load=load(first_token_ms=100)), make_backend("b", load=slow_elsewhere)
        )

        assert [choice.score for choice in ranking] == [75, 75]
        assert [choice.latency_ms for choice in ranking] == [100, 100]

    def test_a_backend_without_measurements_counts_as_the_mean(self):
        ranking = ranked(
            smart(), make_backend("new"), make_backend("a", load=load(first_token_ms=800)), make_backend("idle")
        )

        assert {choice.latency_ms for choice in ranking} == {800}

    def test_an_old_measurement_fades(self):
        slow, now = load(first_token_ms=60_000), NOW
        schedule = Schedule("smart", clock=lambda: now)
        fast = load(first_token_ms=100)
        before = ranked(schedule, make_backend("a", load=fast), make_backend("b", load=slow))

        now += 5 * HALF_LIFE_S
        for _ in range(16):
            fast.model(MODEL).first_token.observe(0.1, now)
        after = ranked(schedule, make_backend("a", load=fast), make_backend("b", load=slow))

        assert [choice.score for choice in before][1] < 75
        assert [choice.score for choice in after] == [75, 75]

    def test_one_that_fails_at_once_does_not_look_idle(self):
        failing = load()
        for _ in range(3):
            failing.model(MODEL).fail(NOW)

        ranking = ranked(smart(), make_backend("failing", load=failing), make_backend("busy", load=load(2)))

        assert names(ranking) == ["busy", "failing"]

    def test_the_weights_are_the_operator_s(self):
        only_load = Schedule("smart", WeightsConfig(priority=0, load=100, latency=0))

        ranking = ranked(
            only_load, make_backend("a", priority=0, load=load(9)), make_backend("b", priority=99, load=load(1))
        )

        assert names(ranking) == ["b", "a"]

    def test_the_reason_shows_the_score(self):
        schedule = smart()
        ranking = ranked(schedule, make_backend("a", priority=0), make_backend("b", priority=50))

        assert schedule.reason(ranking[0], 2) == "highest_score:a:100.00"
        assert schedule.reason(ranking[0], 1) == "only_healthy_backend"


@pytest.mark.parametrize("strategy", ["smart", "least_loaded", "priority_only", "random"])
def test_equal_scores_are_ordered_at_random(strategy):
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


def test_random_shows_the_backend():
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

    def test_the_turn_survives_backends_that_come_and_go(self, take):
        a, b, c = (make_backend(name) for name in "abc")

        assert [take(a, b, c)[0], take(b, c)[0], take(a, b, c)[0], take(a, b)[0]] == ["a", "b", "c", "a"]

    def test_ranking_alone_takes_no_turn(self):
        schedule = Schedule("round_robin")
        backends = [make_backend(name) for name in "ab"]

        assert {names(ranked(schedule, *backends))[0] for _ in range(3)} == {"a"}
