"""The built-in stage for models in memory: which candidate is preferred, and which request waits for a swap."""

import pytest

from nexus.domain.engine_report import EngineReport
from nexus.domain.request import Requirements
from nexus.domain.residency import end_load
from nexus.domain.shared_load import Elsewhere
from nexus.routing.core_stages.residency import MIN_BOUND_S, Residence, Residency
from nexus.routing.stage.api import Refusal
from nexus.testing.builders import make_attempt, make_backend, make_intent


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stage(clock):
    return Residency(clock)


def mac(name="mac", *, loaded=None, models=("llama3", "qwen3"), in_flight=0, **fields):
    backend = make_backend(name, kind="ollama", models=models, slots=4, in_flight=in_flight, **fields)
    if loaded is not None:
        backend.load.tell(EngineReport(at=999.0, due_at=1000.5, loaded=frozenset(loaded)))
    return backend


def swapped(clock):
    """Return a backend with llama3 in memory, for which it has evicted qwen3."""
    backend = mac(loaded=("qwen3",))
    backend.load.model("qwen3").used_at = clock.now - 1.0
    backend.load.tell(EngineReport(at=clock.now - 0.5, due_at=clock.now + 1.5, loaded=frozenset({"llama3"})))
    return backend


def factors(stage, *backends, model="llama3"):
    intent = make_intent(backends=backends, model=model)
    stage.reconcile(intent)
    return {verdict.backend: verdict.factor for verdict in intent.weights}


def reasons(stage, *backends):
    intent = make_intent(backends=backends)
    stage.reconcile(intent)
    return {verdict.backend: verdict.reason for verdict in intent.weights}


def reserve(stage, backend, model="llama3"):
    return stage.reserve(make_intent(backends=[backend], model=model), backend)


class TestPreference:
    def test_a_model_in_memory_beats_one_that_must_be_loaded_by_its_measured_load_time(self, stage):
        cold, warm = mac("cold", loaded=()), mac("warm", loaded=("llama3",))
        cold.load.model("llama3").observe_load(12.0, 500.0)

        found = factors(stage, cold, warm)

        assert found == {"cold": pytest.approx(1 / 13), "warm": 1.0}
        assert reasons(stage, cold, warm) == {
            "cold": "must load llama3 first: about 12 s, as measured",
            "warm": "llama3 is in memory",
        }

    def test_a_long_line_at_the_warm_backend_outweighs_a_short_load(self, stage):
        cold, warm = mac("cold", loaded=()), mac("warm", loaded=("llama3",), in_flight=43)
        cold.load.model("llama3").observe_load(5.0, 500.0)
        warm.load.model("llama3").observe_answer(4.0)

        found = factors(stage, cold, warm)

        assert found["cold"] == 1.0
        assert found["warm"] < 0.2

    def test_a_load_time_measured_elsewhere_counts_where_none_was_measured_here(self, stage):
        cold, warm = mac("cold", loaded=()), mac("warm", loaded=("llama3",))
        warm.load.model("llama3").observe_load(40.0, 500.0)

        assert reasons(stage, cold, warm)["cold"] == (
            "must load llama3 first: about 40 s, as measured at other backends"
        )

    def test_a_load_that_is_nearly_over_costs_little(self, stage, clock):
        begun, cold = mac("begun", loaded=()), mac("cold", loaded=())
        for backend in (begun, cold):
            backend.load.model("llama3").observe_load(20.0, 500.0)
        reserve(stage, begun)
        clock.now += 18.0

        found = factors(stage, begun, cold)

        assert found == {"begun": 1.0, "cold": pytest.approx(3 / 21)}

    @pytest.mark.parametrize(
        "others",
        [
            [mac("unknown")],
            [mac("warm", loaded=("llama3",))],
            [make_backend("vllm", kind="vllm", models=("llama3",))],
        ],
    )
    def test_where_nothing_must_be_loaded_as_far_as_is_known_nothing_is_weighed(self, stage, others):
        assert factors(stage, mac(loaded=("llama3",)), *others) == {}

    def test_a_backend_whose_memory_is_not_known_is_left_alone(self, stage):
        found = factors(stage, mac("cold", loaded=()), mac("warm", loaded=("llama3",)), mac("unknown"))

        assert found.keys() == {"cold", "warm"}


class TestSwaps:
    def test_a_request_for_an_absent_model_waits_while_another_is_in_use_that_it_would_evict(self, stage):
        backend = mac(loaded=("qwen3",), max_loaded_models=1)
        backend.load.model("qwen3").in_flight = 1

        refusal = reserve(stage, backend)

        assert isinstance(refusal, Refusal)
        assert refusal.is_saturation
        assert refusal.reason.startswith("Loading llama3 would evict qwen3, which is in use")
        assert 0 < refusal.retry_in_s <= 5

    def test_it_waits_for_a_model_that_only_other_processes_use(self, stage):
        backend = mac(loaded=("qwen3",), max_loaded_models=1)
        backend.load.see_elsewhere(Elsewhere(in_flight=1, models={"qwen3": 1}))

        refusal = reserve(stage, backend)

        assert isinstance(refusal, Refusal)
        assert refusal.reason.startswith("Loading llama3 would evict qwen3, which is in use")

    def test_it_loads_at_once_where_nothing_is_in_use(self, stage):
        backend = mac(loaded=("qwen3",), max_loaded_models=1)

        assert isinstance(reserve(stage, backend), Residence)

    def test_it_is_not_held_back_where_it_is_not_known_that_both_do_not_fit(self, stage):
        backend = mac(loaded=("qwen3",))
        backend.load.model("qwen3").in_flight = 1

        assert isinstance(reserve(stage, backend), Residence)

    def test_it_is_sent_once_it_has_waited_for_the_bound(self, stage, clock):
        backend = mac(loaded=("qwen3",), max_loaded_models=1)
        backend.load.model("qwen3").in_flight = 1
        began = clock.now
        while isinstance(reserve(stage, backend), Refusal):
            clock.now += 5.0
            backend.load.tell(EngineReport(at=clock.now, due_at=clock.now + 2, loaded=frozenset({"qwen3"})))

        assert clock.now - began == MIN_BOUND_S
        assert backend.load.memory.held_back_total == 1

    def test_from_then_on_the_model_that_must_leave_gets_no_more_requests_until_the_load_is_over(self, stage, clock):
        backend = mac(loaded=("qwen3",), max_loaded_models=1)
        backend.load.model("qwen3").in_flight = 1
        while isinstance(swap := reserve(stage, backend), Refusal):
            clock.now += 5.0
            backend.load.tell(EngineReport(at=clock.now, due_at=clock.now + 2, loaded=frozenset({"qwen3"})))

        held = reserve(stage, backend, "qwen3")
        together = reserve(stage, backend)
        swap.settle(make_attempt("mac"))
        together.settle(make_attempt("mac"))
        after = reserve(stage, backend, "qwen3")

        assert held.reason == "Backend is loading llama3, and qwen3 does not fit beside it"
        assert isinstance(together, Residence)
        assert isinstance(after, Residence)

    def test_a_backend_that_loads_gets_no_request_for_another_absent_model(self, stage, clock):
        backend = mac(loaded=(), max_loaded_models=1)
        load = reserve(stage, backend)

        held = reserve(stage, backend, "qwen3")
        end_load(backend, backend.load.memory.under_way["llama3"], clock.now + 4)
        load.settle(make_attempt("mac"))

        assert isinstance(held, Refusal)
        assert isinstance(reserve(stage, backend, "qwen3"), Residence)

    def test_a_load_that_takes_too_long_holds_back_no_more(self, stage, clock):
        backend = mac(loaded=(), max_loaded_models=1)
        reserve(stage, backend)
        clock.now += MIN_BOUND_S
        backend.load.tell(EngineReport(at=clock.now, due_at=clock.now + 2, loaded=frozenset()))

        assert isinstance(reserve(stage, backend, "qwen3"), Residence)

    def test_no_request_is_sent_for_a_model_that_has_to_leave_for_requests_that_wait_there(self, stage, clock):
        backend = swapped(clock)
        backend.load.model("qwen3").first_token.waiting[object()] = clock.now - 4.0

        refusal = reserve(stage, backend)

        assert refusal.reason == "Requests for qwen3 wait there, which does not fit beside llama3"
        assert refusal.is_saturation
        assert refusal.is_preference
        assert 0 < refusal.retry_in_s <= 5

    def test_requests_that_wait_there_for_too_long_hold_back_no_more(self, stage, clock):
        backend = swapped(clock)
        backend.load.model("qwen3").first_token.waiting[object()] = clock.now - MIN_BOUND_S

        assert isinstance(reserve(stage, backend), Residence)

    def test_they_hold_back_nothing_once_both_models_are_seen_together(self, stage, clock):
        backend = swapped(clock)
        backend.load.model("qwen3").first_token.waiting[object()] = clock.now - 4.0
        backend.load.tell(EngineReport(at=clock.now, due_at=clock.now + 2, loaded=frozenset({"llama3", "qwen3"})))

        assert isinstance(reserve(stage, backend), Residence)

    def test_what_only_seems_to_have_left_is_no_measured_load(self, stage, clock):
        backend = swapped(clock)
        figures, other = backend.load.model("llama3"), backend.load.model("qwen3")
        other.used_at, other.progressed_at = clock.now - 10.0, clock.now

        hold = reserve(stage, backend)
        load = backend.load.memory.under_way["llama3"]
        end_load(backend, load, clock.now + 0.2)
        hold.settle(make_attempt("mac"))

        assert figures.load_s == 0.0
        assert backend.load.memory.loads_total == 0

    def test_a_request_that_cannot_wait_any_longer_is_sent(self, stage):
        backend = mac(loaded=("qwen3",), max_loaded_models=1)
        backend.load.model("qwen3").in_flight = 1
        intent = make_intent(backends=[backend], requirements=Requirements(model="llama3", may_wait=False))

        assert isinstance(stage.reserve(intent, backend), Residence)
        assert stage.would_refuse(intent, backend) is None

    def test_other_kinds_hold_nothing(self, stage):
        backend = make_backend(kind="vllm")

        assert reserve(stage, backend) is None

    def test_explaining_holds_back_and_counts_nothing(self, stage):
        backend = mac(loaded=("qwen3",), max_loaded_models=1)
        backend.load.model("qwen3").in_flight = 1
        intent = make_intent(backends=[backend])

        refusal, facts = stage.would_refuse(intent, backend), stage.explain(intent)

        assert isinstance(refusal, Refusal)
        assert backend.load.memory.held_back_total == 0
        assert facts["backends"]["mac"]["presence"] == "not in memory"
        assert facts["backends"]["mac"]["in_words"] == "must load llama3 first: about 10 s, not measured yet"
        assert facts["backends"]["mac"]["held_back"] == refusal.reason

    def test_good_answers_are_timed_for_the_expected_wait(self, stage):
        backend = mac(loaded=("llama3",))

        reserve(stage, backend).settle(make_attempt("mac", model="llama3", duration_s=4.0))
        reserve(stage, backend).settle(make_attempt("mac", model="llama3", duration_s=4.0, status=500))

        assert backend.load.model("llama3").answer_s == 4.0
