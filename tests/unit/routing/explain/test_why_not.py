"""Each reason why a backend was not chosen has its sentence."""

import pytest

from nexus.domain.backend import Breaker, Status
from nexus.domain.backend_load import BackendLoad
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import Requirements
from nexus.domain.shared_load import Allotment
from nexus.routing.decision_record import Request
from nexus.routing.explain.why_not import why_not
from nexus.routing.stage.api import Refusal
from nexus.testing.builders import CHAT, make_backend, make_fleet
from tests.support.dry_runs import explain


def sentences(router, *backends, model="llama3"):
    asked = Request("r-1", CHAT, Requirements(model=model), {}, 1_777_777_777.0)
    explanation = explain(router, asked, make_fleet(*backends))
    return {reason.backend: reason.why for reason in explanation.why_not}


def test_every_backend_but_the_chosen_one_has_a_sentence(router):
    backends = [make_backend(f"gpu-{number}", priority=number) for number in range(4)]

    assert sentences(router(), *backends).keys() == {"gpu-1", "gpu-2", "gpu-3"}


def test_a_backend_without_the_model(router):
    why = sentences(router(fallbacks={"llama3": ("phi",)}), make_backend("gpu-1", models=["qwen3"]))

    assert why == {"gpu-1": "it does not have 'llama3' or 'phi'"}


def test_a_backend_whose_models_are_not_known(router):
    dead = make_backend("gpu-1", models=(), status=Status.UNHEALTHY, last_error="connection refused")

    why = sentences(router(), dead, make_backend("gpu-2"))

    assert why == {"gpu-1": "it is unhealthy and its models are not known (connection refused)"}


def test_a_backend_excluded_for_two_reasons(router, stage):
    def no_cloud(intent):
        for backend in intent.candidates_in(zone="cloud"):
            intent.exclude(backend, stage="privacy", reason="data stays here")
            intent.exclude(backend, stage="privacy", reason="its owner reads along")

    openai = make_backend("openai", zone="cloud")

    why = sentences(router(stage(no_cloud, name="privacy")), openai, make_backend("gpu-1"))

    assert why["openai"] == (
        "stage 'privacy' excluded it: data stays here and stage 'privacy' excluded it: its owner reads along"
    )


def test_a_lower_score(router):
    why = sentences(router(), make_backend("gpu-1", priority=0), make_backend("gpu-2"))

    assert why["gpu-2"] == "it ranks 2 of 2: score 75.00 against 100.00 of gpu-1, by its priority"


def test_a_lower_score_because_a_stage_weighs_it(router, stage):
    def halve(intent):
        for backend in intent:
            if backend.name == "gpu-2":
                intent.weigh(backend, 0.5, stage="quality", reason="slow to begin")

    why = sentences(router(stage(halve, name="quality")), make_backend("gpu-1"), make_backend("gpu-2"))

    assert why["gpu-2"].endswith("of gpu-1, because it is weighed by 0.5 ('quality': slow to begin)")


def test_a_backend_weighed_by_zero(router, stage):
    def never(intent):
        for backend in intent:
            if backend.name == "gpu-2":
                intent.weigh(backend, 0.0, stage="quality", reason="hopeless")

    why = sentences(router(stage(never, name="quality")), make_backend("gpu-1"), make_backend("gpu-2"))

    assert why["gpu-2"].endswith("of gpu-1, because it is weighed by 0 ('quality': hopeless)")


def test_a_lower_score_in_many_parts(router):
    busy = make_backend("gpu-2", priority=60, load=BackendLoad(in_flight=32), max_in_flight=64)

    why = sentences(router(), make_backend("gpu-1"), busy)

    assert why["gpu-2"] == "it ranks 2 of 2: score 55.00 against 75.00 of gpu-1, mostly by its load"


def test_an_equal_score_that_comes_second_at_random(router):
    (why,) = sentences(router(strategy="least_loaded"), make_backend("gpu-1"), make_backend("gpu-2")).values()

    assert why.startswith("it ranks 2 of 2: as good as gpu-")
    assert why.endswith("(score 1.00), which was preferred at random")


def test_an_equal_score_whose_turn_comes_later(router):
    (why,) = sentences(router(), make_backend("gpu-1"), make_backend("gpu-2")).values()

    assert why.endswith("(score 75.00), which comes first in turn")


def test_a_backend_whose_turn_comes_later(router):
    why = sentences(router(strategy="round_robin"), make_backend("gpu-1"), make_backend("gpu-2"))

    assert why == {"gpu-2": "it ranks 2 of 2: as good as gpu-1 (score 1.00), which comes first in turn"}


def test_a_backend_with_a_smaller_share(router):
    big, small = make_backend("gpu-1", share=3.0), make_backend("gpu-2", share=0.001)
    busy = make_backend("gpu-3", share=0.5, in_flight=9)

    why = sentences(router(strategy="round_robin"), big, small)
    of_load = sentences(router(), big, busy)

    assert why["gpu-2"].endswith("which comes first in turn (its share is 0.001, that of gpu-1 3)")
    assert of_load["gpu-3"].endswith("of gpu-1, by its load (its share is 0.5, that of gpu-1 3)")


def test_a_backend_at_its_limit(router):
    full = make_backend("gpu-1", priority=0, max_in_flight=0)

    why = sentences(router(), full, make_backend("gpu-2"), make_backend("gpu-3", priority=90))

    assert why["gpu-1"] == "it is at its limit: 0 of 0 slots are in use"
    assert "against 75.00 of gpu-2" in why["gpu-3"]


def test_a_backend_whose_free_slots_are_at_other_workers(router):
    divided = make_backend("gpu-1", priority=0, max_in_flight=2)
    divided.load.divide("", Allotment())

    why = sentences(router(), divided, make_backend("gpu-2"))

    assert why["gpu-1"] == (
        "this process has none of its free slots, and asks other workers or replicas for one: 0 of 2 slots are in use"
    )


def test_a_backend_that_a_stage_could_not_hold_for(router, stage):
    def refuse(intent, backend):
        return Refusal("the till is shut", is_saturation=True) if backend.name == "gpu-1" else None

    money = stage(name="money")
    money.would_refuse = refuse

    why = sentences(router(money), make_backend("gpu-1", priority=0), make_backend("gpu-2"))

    assert why["gpu-1"] == "it could not take the request at once: the till is shut ('money')"


def test_an_avoided_backend(router):
    why = sentences(router(), make_backend("gpu-1", breaker=Breaker.OPEN), make_backend("gpu-2"))

    assert why["gpu-1"] == (
        "it is avoided while any other backend is left: Backend has been failing: its breaker is open ('schedule')"
    )


def test_no_backend_is_first_when_the_request_must_wait(router):
    why = sentences(
        router(),
        make_backend("gpu-1", max_in_flight=0),
        make_backend("gpu-2", breaker=Breaker.OPEN),
        make_backend("gpu-3", max_in_flight=0),
    )

    assert why.keys() == {"gpu-1", "gpu-2", "gpu-3"}
    assert "limit" in why["gpu-1"]
    assert "avoided" in why["gpu-2"]


def test_a_backend_with_only_an_excluded_fallback(router):
    sick = make_backend("gpu-1", models=["llama3", "phi"], status=Status.DRAINING)

    why = sentences(router(fallbacks={"llama3": ("phi",)}), sick, make_backend("gpu-2", models=["phi"]))

    excluded = "stage 'schedule' excluded it: Backend unhealthy: Draining"
    assert why == {"gpu-1": f"for 'llama3': {excluded}; for 'phi': {excluded}"}


@pytest.mark.parametrize(("fault", "said"), [("refused", "failed (refused)"), (None, "failed")])
def test_a_backend_that_was_tried_before(router, routing, settle, fault, said):
    fleet = make_fleet(make_backend("gpu-1", priority=0), make_backend("gpu-2"))
    search = routing(router())
    settle(search.next(fleet), Ending.BACKEND_FAILED)
    settle(search.next(fleet))
    attempt = AttemptOutcome(backend="gpu-1", backend_id="1", model="llama3", ending=Ending.BACKEND_FAILED, fault=fault)
    search.record.outcome = type("Outcome", (), {"attempts": (attempt,)})()

    (reason,) = why_not(search.record)

    assert (reason.backend, reason.why) == ("gpu-1", f"it was tried before, and {said}")


def test_a_backend_that_was_not_considered_because_a_stage_failed(router, stage):
    why = sentences(router(stage(lambda _: 1 / 0, name="tier")), make_backend("gpu-1"))

    assert why == {"gpu-1": "stage 'tier' failed before a backend could be chosen"}
