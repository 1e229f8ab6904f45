"""The built-in last stage: health, factors and slots."""

import pytest
from msgspec.structs import replace

from nexus.domain.backend import Breaker, Status
from nexus.domain.backend_load import BackendLoad
from nexus.domain.model import ModelFacts
from nexus.domain.outcome import Ending
from nexus.domain.request import Requirements, TokenUsage
from nexus.domain.shared_load import HELD, Allotment, Elsewhere
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.stage.api import Hold, Refusal
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
        assert list(ranked(Schedule(), make_backend(**state))) == []

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


def in_use(number, **fields):
    """Return a backend with so many requests in flight for the model."""
    backend = make_backend(**fields)
    for _ in range(number):
        assert isinstance(Schedule().reserve(make_intent(backends=[backend]), backend), Hold)
    return backend


class TestCapacity:
    def test_beyond_its_reported_slots_and_some_ahead_requests_had_better_wait(self):
        backend = in_use(6, slots=4, slots_are_reported=True)
        intent, schedule = make_intent(backends=[backend]), Schedule()

        refusal = schedule.reserve(intent, backend)

        assert isinstance(refusal, Refusal)
        assert (refusal.is_saturation, refusal.is_preference) == (True, True)
        assert schedule.would_refuse(intent, backend) == refusal
        assert refusal.reason == "Backend works on 4 at once (reported by the server), and has 6 requests"

    def test_a_request_that_may_not_wait_is_sent(self):
        backend = in_use(6, slots=4, slots_are_reported=True)
        intent = make_intent(backends=[backend], requirements=Requirements(model=MODEL, may_wait=False))

        assert isinstance(Schedule().reserve(intent, backend), Hold)

    @pytest.mark.parametrize("fields", [{}, {"slots": 4}, {"kind": "ollama", "slots": 4}])
    def test_a_usual_or_unknown_capacity_holds_nothing_back(self, fields):
        assert in_use(50, **fields).load.in_flight == 50

    def test_nor_does_a_learned_one(self):
        backend = in_use(5)
        backend.load.model(MODEL).learned.limit = 4.0

        assert isinstance(Schedule().reserve(make_intent(backends=[backend]), backend), Hold)

    def test_the_limit_of_a_model_is_none_of_another(self):
        models = (ModelFacts(name=MODEL, max_in_flight=2), ModelFacts(name="qwen3"))
        backend = in_use(2, models=models)

        refusal = Schedule().reserve(make_intent(backends=[backend]), backend)
        other = Schedule().reserve(make_intent(backends=[backend], model="qwen3"), backend)

        assert isinstance(refusal, Refusal)
        assert not refusal.is_preference
        assert isinstance(other, Hold)

    def test_a_capacity_is_learned_from_streams_only_and_where_none_is_certain(self):
        learning, limited = in_use(20), in_use(20, is_limited=True)
        for backend in (learning, limited):
            intent = make_intent(backends=[backend])
            for first_byte_s in [0.1] * 10 + [2.0] * 10:
                hold = Schedule().reserve(intent, backend)
                hold.settle(make_attempt(is_stream=True, first_byte_s=first_byte_s))

        assert learning.load.model(MODEL).learned.limit < 21
        assert limited.load.model(MODEL).learned.limit is None


def test_equal_backends_are_equal_whatever_was_learned_of_one_of_them():
    first, second = in_use(8, name="a"), in_use(8, name="b")
    first.load.model(MODEL).learned.limit = 10.0

    ranking = ranked(Schedule(), first, second)

    assert ranking[0].score == ranking[1].score


def test_one_that_is_known_to_do_far_more_at_once_is_less_busy():
    first, second = in_use(8, name="a"), in_use(8, name="b")
    first.load.model(MODEL).learned.limit, second.load.model(MODEL).learned.limit = 8.0, 80.0

    assert names(ranked(Schedule(), first, second)) == ["b", "a"]


class TestSlotsThatProcessesDivide:
    def test_a_request_waits_when_this_process_has_no_slot_left(self):
        backend, asked = make_backend(max_in_flight=8), []
        backend.load.divide("", Allotment(1, on_short=asked.append))
        intent = make_intent(backends=[backend])

        held, refused = Schedule().reserve(intent, backend), Schedule().reserve(intent, backend)

        assert isinstance(held, Hold)
        assert isinstance(refused, Refusal)
        assert refused.is_saturation
        assert asked == [backend.load.allotments[""]]

    def test_a_slot_goes_back_with_its_request(self):
        backend = make_backend()
        part = Allotment(1)
        backend.load.divide("", part)
        held = Schedule().reserve(make_intent(backends=[backend]), backend)

        held.settle(make_attempt())
        held.settle(make_attempt())

        assert part.used == 0

    def test_nothing_is_held_when_the_model_has_no_slot_left(self):
        backend = make_backend(models={MODEL: ModelFacts(name=MODEL, max_in_flight=4)})
        backend.load.divide("", Allotment(3))
        backend.load.divide(MODEL, Allotment(0, model=MODEL))

        refused = Schedule().reserve(make_intent(backends=[backend]), backend)

        assert "for the model" in refused.reason
        assert (backend.load.allotments[""].used, backend.load.in_flight) == (0, 0)

    def test_requests_of_other_workers_count_against_what_a_server_reports(self):
        backend = make_backend(slots=2, slots_are_reported=True, max_in_flight=64)
        backend.load.model(MODEL)
        backend.load.see_elsewhere(Elsewhere(4, models={MODEL: 4}))

        refused = Schedule().reserve(make_intent(backends=[backend]), backend)

        assert refused.is_preference

    def test_reported_slots_that_processes_divide_hold_requests_back_that_may_wait(self):
        backend, asked = make_backend(slots=2, slots_are_reported=True, max_in_flight=64), []
        held = Allotment(1, on_short=asked.append)
        backend.load.divide(HELD + MODEL, held)
        patient, insistent = (
            make_intent(backends=[backend], requirements=Requirements(model=MODEL, may_wait=may_wait))
            for may_wait in (True, False)
        )

        first, second = (Schedule().reserve(patient, backend) for _ in range(2))
        third = Schedule().reserve(insistent, backend)

        assert isinstance(first, Hold)
        assert isinstance(third, Hold)
        assert second.is_preference
        assert (held.used, asked) == (2, [held])
        first.settle(make_attempt())
        third.settle(make_attempt())
        assert (held.used, held.size) == (0, 1)

    def test_the_explanation_names_the_requests_of_others(self):
        backend = make_backend()
        backend.load.see_elsewhere(Elsewhere(3))

        (sentence,) = Schedule().describe(make_intent(backends=[backend])).values()

        assert "0 requests in flight here, 3 at other workers or replicas" in sentence
