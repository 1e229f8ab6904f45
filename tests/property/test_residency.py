"""Requests for models that do not fit together are served in batches, and none of them waits for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.domain.engine_report import EngineReport
from nexus.routing.core_stages.residency import Residency, bound_s
from nexus.testing.builders import MODEL, make_backend, make_intent
from tests.support.swapping import SwappingWorld

LOAD_S = 8.0
DURATION_S = 1200.0


def served(world):
    return sum(request.ended is not None for request in world.asked)


def two_models_in_turns(*, holds_back, pause_s=0.2, **fields):
    """Let four clients ask again after each answer, two for each of two models."""
    world = SwappingWorld(load_s=LOAD_S, holds_back=holds_back, **fields)
    world.on_end = lambda request: world.at(world.now + pause_s, lambda: world.ask(request.model, request.service_s))
    for client, (model, service_s) in enumerate((("a", 1.0), ("b", 1.3), ("a", 1.7), ("b", 0.9))):
        world.at(1000.0 + client / 10, lambda model=model, service_s=service_s: world.ask(model, service_s))
    world.run(1000.0 + DURATION_S)
    return world


@pytest.mark.parametrize("reports", [True, False])
def test_two_models_on_a_server_that_fits_one_are_swapped_five_times_less_than_in_turn(reports):
    in_turn = two_models_in_turns(holds_back=False, reports=reports)
    batched = two_models_in_turns(holds_back=True, reports=reports)

    assert in_turn.loads / served(in_turn) >= 5 * batched.loads / served(batched)
    assert served(batched) >= 2 * served(in_turn)


@pytest.mark.parametrize("every_s", [0.5, 1.0, 2.0, 3.0, 5.0])
@pytest.mark.parametrize("pause_s", [0.01, 0.2])
def test_that_they_do_not_fit_together_is_found_out_without_a_setting(pause_s, every_s):
    in_turn = two_models_in_turns(holds_back=False, pause_s=pause_s)
    batched = two_models_in_turns(holds_back=True, pause_s=pause_s, reports_every_s=every_s, max_loaded_models=None)

    # Each turn lasts until the bound; until the first report that shows a swap, nothing is held back.
    assert batched.loads <= DURATION_S / bound_s(LOAD_S) + 3
    assert in_turn.loads / served(in_turn) >= 5 * batched.loads / served(batched)
    assert served(batched) >= 5 * served(in_turn)


@pytest.mark.parametrize("reports", [True, False])
def test_no_request_waits_longer_than_the_bound_and_one_load(reports):
    world = two_models_in_turns(holds_back=True, reports=reports)
    in_use_s = 1.7

    for request in world.asked:
        if request.begun is not None:
            assert request.sent - request.arrived <= bound_s(LOAD_S)
            assert request.begun - request.arrived <= bound_s(LOAD_S) + in_use_s + LOAD_S


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 60), st.floats(0.0, 300.0), st.floats(0.0, 60.0)),
        min_size=2,
        max_size=6,
    )
)
def test_an_idle_warm_backend_is_never_behind_a_cold_one_and_no_factor_is_zero(states):
    backends = []
    for number, (is_warm, in_flight, load_s, answer_s) in enumerate(states):
        backend = make_backend(f"mac-{number}", kind="ollama", slots=4, in_flight=in_flight)
        backend.load.tell(EngineReport(at=999.0, due_at=1001.0, loaded=frozenset({MODEL} if is_warm else ())))
        figures = backend.load.model(MODEL)
        figures.load_s, figures.answer_s = load_s, answer_s
        backends.append(backend)
    intent = make_intent(backends=backends)

    Residency(lambda: 1000.0).reconcile(intent)

    factors = {verdict.backend: verdict.factor for verdict in intent.weights}
    assert all(0.0 < factor <= 1.0 for factor in factors.values())
    assert not intent.excluded
    assert not intent.avoided
    if factors:
        assert max(factors.values()) == 1.0
        idle = [b.name for b, state in zip(backends, states, strict=True) if state[0] and state[1] < b.slots]
        assert all(factors[name] == 1.0 for name in idle)


arrivals = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(0.0, 20.0), st.floats(0.1, 40.0)), min_size=1, max_size=25
)


@given(arrivals, st.floats(0.5, 40.0), st.booleans(), st.lists(st.booleans(), max_size=5))
def test_every_request_is_sent_within_the_bound_and_one_more(requests, load_s, reports, fails):
    world = SwappingWorld(load_s=load_s, holds_back=True, reports=reports, fails=iter(fails))
    at = 1000.0
    for model, pause_s, service_s in requests:
        at += pause_s
        world.at(at, lambda model=model, service_s=service_s: world.ask(model, service_s))

    world.run(float("inf"))

    # What it takes for granted of loads follows the measurements, which are at most this long.
    patience_s = bound_s(max(load_s, 10.0))
    assert not world.waiting
    for request in world.asked:
        assert request.sent - request.arrived <= 2 * patience_s + 0.001
    memory = world.backend.load.memory
    assert memory.under_way == {}
    assert world.backend.load.in_flight == 0
