"""The built-in last stage: health, factors and slots."""

import pytest
from msgspec.structs import replace

from nexus.domain.backend import BackendLoad, Breaker, Status
from nexus.domain.outcome import Ending
from nexus.domain.request import Requirements, TokenUsage
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.stage.api import Refusal
from nexus.testing.builders import CHAT, MODEL, make_attempt, make_backend, make_intent


def ranked(schedule, *backends, weights=()):
    intent = make_intent(backends=backends)
    schedule.reconcile(intent)
    for name, factor in weights:
        intent.weigh(next(b for b in backends if b.name == name), factor, stage="test", reason="for the test")
    return schedule.rank(intent)


def names(ranking):
    return [choice.backend.name for choice in ranking]


class TestHealth:
    @pytest.mark.parametrize(
        "state",
        [
            {"status": Status.DRAINING},
            {"status": Status.UNHEALTHY, "is_refusing": True},
            {"status": Status.UNHEALTHY, "is_replaced": True},
        ],
    )
    def test_a_backend_that_certainly_cannot_answer_is_out(self, state):
        assert ranked(Schedule(), make_backend(**state)) == []

    @pytest.mark.parametrize("status", [s for s in Status if s not in (Status.HEALTHY, Status.DRAINING)])
    def test_any_other_status_makes_a_last_resort(self, status):
        ranking = ranked(
            Schedule(),
            make_backend("sick", priority=0, status=status),
            make_backend("failing", priority=100, breaker=Breaker.OPEN),
        )

        assert [(choice.backend.name, choice.is_last_resort) for choice in ranking] == [
            ("failing", False),
            ("sick", True),
        ]

    @pytest.mark.parametrize(
        ("state", "is_avoided"),
        [
            ({"breaker": Breaker.CLOSED}, False),
            ({"breaker": Breaker.OPEN}, True),
            ({"breaker": Breaker.HALF_OPEN}, False),
            ({"breaker": Breaker.HALF_OPEN, "load": BackendLoad(probing=True)}, True),
            ({"is_cooling": True}, True),
            ({"model_breakers": {MODEL: Breaker.OPEN}}, True),
            ({"model_breakers": {"qwen3": Breaker.OPEN}}, False),
            ({"model_breakers": {MODEL: Breaker.HALF_OPEN}, "load": BackendLoad(probing=True)}, False),
            ({"cooling_models": frozenset({MODEL})}, True),
            ({"cooling_models": frozenset({"qwen3"})}, False),
            ({"breaker": Breaker.OPEN, "server_breaker": Breaker.CLOSED, "model_breakers": {"a": Breaker.OPEN}}, False),
        ],
    )
    def test_a_failing_backend_comes_last(self, state, is_avoided):
        ranking = ranked(Schedule(), make_backend("first", priority=0, **state), make_backend("second", priority=100))

        assert names(ranking) == (["second", "first"] if is_avoided else ["first", "second"])


def test_factors_of_stages_are_multiplied():
    ranking = ranked(
        Schedule(), make_backend("a", priority=0), make_backend("b", priority=50), weights=[("a", 0.5), ("a", 0.5)]
    )

    assert [(c.backend.name, c.score) for c in ranking] == [("b", 75), ("a", 25)]


class TestSlots:
    def test_a_backend_at_its_limit_refuses_and_waiting_helps(self):
        backend = make_backend(max_in_flight=1, load=BackendLoad(in_flight=1))

        refusal = Schedule().reserve(make_intent(backends=[backend]), backend)

        assert isinstance(refusal, Refusal)
        assert refusal.is_saturation
        assert backend.load.in_flight == 1

    def test_a_slot_is_given_back_exactly_once(self):
        backend = make_backend(load=BackendLoad(in_flight=3))
        slot = Schedule().reserve(make_intent(backends=[backend]), backend)

        slot.settle(None)
        slot.settle(None)

        assert backend.load.in_flight == 3

    def test_a_half_open_breaker_of_a_model_is_tried_by_one_request_for_it(self):
        backend = make_backend(model_breakers={MODEL: Breaker.HALF_OPEN})
        intent = make_intent(backends=[backend])
        probe = Schedule().reserve(intent, backend)
        other = Schedule().reserve(intent, backend)

        other.settle(None)
        assert (backend.load.model(MODEL).probing, backend.load.probing) == (True, False)

        probe.settle(None)
        assert (backend.load.model(MODEL).probing, backend.load.in_flight) == (False, 0)

    def test_a_half_open_breaker_is_tried_by_one_request(self):
        backend = make_backend(breaker=Breaker.HALF_OPEN)
        intent = make_intent(backends=[backend])
        probe = Schedule().reserve(intent, backend)
        other = Schedule().reserve(intent, backend)

        other.settle(None)
        assert backend.load.probing

        probe.settle(None)
        assert (backend.load.probing, backend.load.in_flight) == (False, 0)


class TestTokens:
    def test_a_prompt_counts_until_the_answer_begins_and_the_answer_to_the_end(self):
        backend = make_backend()
        wanted = Requirements(model=MODEL, prompt_tokens=900, max_tokens=100)
        slot = Schedule().reserve(make_intent(backends=[backend], requirements=wanted), backend)
        load = backend.load
        assert (load.prompt_tokens, load.answer_tokens, load.model(MODEL).in_flight) == (900, 100, 1)

        slot.begin_answer(None)
        assert (load.prompt_tokens, load.answer_tokens) == (0, 100)

        slot.settle(make_attempt(usage=TokenUsage(1800, 40)))
        assert (load.prompt_tokens, load.answer_tokens, load.model(MODEL).in_flight) == (0, 0, 0)

    def test_a_stream_that_reports_its_prompt_early_corrects_the_next_estimate_at_once(self):
        backend = make_backend()
        intent = make_intent(backends=[backend], requirements=Requirements(model=MODEL, prompt_tokens=10_000))
        slot = Schedule().reserve(intent, backend)

        slot.begin_answer(TokenUsage(20_000, 1))
        after_start = backend.load.model(MODEL).size.ratio
        slot.settle(make_attempt(usage=TokenUsage(20_000, 40)))

        assert after_start == pytest.approx(2.0, rel=0.05)
        assert backend.load.model(MODEL).size.ratio == after_start
        assert backend.load.model(MODEL).size.answer_tokens == 40

    def test_an_answer_that_broke_off_says_nothing_about_lengths(self):
        backend = make_backend()
        intent = make_intent(backends=[backend], requirements=Requirements(model=MODEL, prompt_tokens=1000))
        slot = Schedule().reserve(intent, backend)

        slot.settle(make_attempt(ending=Ending.CLIENT_LEFT, usage=TokenUsage(2000, 3)))

        assert backend.load.model(MODEL).size.counted == 0

    def test_a_request_for_a_kept_object_has_a_slot_and_no_tokens(self):
        backend = make_backend()
        endpoint = replace(CHAT, capability="keep")
        slot = Schedule().reserve(make_intent(backends=[backend], endpoint=endpoint), backend)
        assert (backend.load.in_flight, backend.load.answer_tokens, backend.load.models) == (1, 0, {})

        slot.settle(make_attempt(model=""))
        assert backend.load.in_flight == 0
