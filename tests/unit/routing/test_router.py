"""The search for a backend: which backends are tried, in which order, and what happens to the request."""

from time import monotonic

import msgspec
import pytest

from nexus.domain.backend import Breaker, Status
from nexus.domain.engine_report import EngineReport
from nexus.domain.outcome import Ending
from nexus.routing.decision import Reject, Reserved, Saturated
from nexus.routing.decision_record import MAX_RECORDED_BLOCKS
from nexus.routing.policies import Policies, Policy
from nexus.routing.rejections import overload, saturation, what_would_help
from nexus.routing.stage.api import Refusal
from nexus.testing.builders import make_backend, make_fleet


def names(fleet_or_saturated):
    return [backend.name for backend in fleet_or_saturated.backends]


def test_the_best_backend_is_reserved_under_its_own_name_for_the_model(router, routing):
    fleet = make_fleet(make_backend(models=["llama3:latest"], kind="ollama"))

    reserved = routing(router(), "LLaMA3").next(fleet)

    assert isinstance(reserved, Reserved)
    assert (reserved.backend.name, reserved.model, reserved.resolved_model) == ("gpu-1", "llama3:latest", "LLaMA3")
    assert (reserved.route_reason, reserved.reason) == ("capability-match", "only_healthy_backend")
    assert reserved.fallback_model is None
    assert reserved.backend.load.in_flight == 1


def test_settling_twice_gives_the_slot_back_once(router, routing, settle):
    fleet = make_fleet(make_backend())
    reserved = routing(router()).next(fleet)

    settle(reserved)
    settle(reserved)

    assert fleet.backends[0].load.in_flight == 0


def test_after_a_failed_attempt_another_backend_is_asked(router, routing, settle):
    fleet = make_fleet(make_backend("gpu-1", priority=1), make_backend("gpu-2", priority=90))
    search = routing(router())

    first = search.next(fleet)
    settle(first, Ending.BACKEND_FAILED)
    second = search.next(fleet)

    assert (first.backend.name, first.route_reason) == ("gpu-1", "capability-match")
    assert (second.backend.name, second.route_reason) == ("gpu-2", "failover")


def test_when_all_have_been_tried_no_backend_is_left(router, routing):
    fleet = make_fleet(make_backend())
    search = routing(router())
    search.next(fleet)

    reject = search.next(fleet)

    assert isinstance(reject, Reject)
    assert (reject.code, reject.retry_after_s) == ("no_healthy_backend", 5)


def test_when_every_slot_is_taken_the_request_may_wait_for_the_ones_that_would_serve_it(router, routing, settle):
    fleet = make_fleet(make_backend("gpu-1", max_in_flight=1), make_backend("gpu-2", max_in_flight=1, priority=60))
    busy = [routing(router()).next(fleet), routing(router()).next(fleet)]
    search = routing(router(), model="llama3")

    answer = search.next(fleet)

    assert isinstance(answer, Saturated)
    assert names(answer) == ["gpu-1", "gpu-2"]
    settle(busy[1])
    assert search.next(fleet).backend.name == busy[1].backend.name


def test_a_saturated_stage_gives_its_own_reason(router, routing, stage):
    def hold(_intent, backend):
        if backend.name == "cloud":
            return Refusal("the till is shut", is_saturation=True, action="come back", context={"till": 1})
        return None

    fleet = make_fleet(make_backend("cloud"), make_backend("gpu-1", max_in_flight=0))

    answer = routing(router(stage(holds=hold, name="money"))).next(fleet)

    reasons = {verdict.backend: (verdict.stage, verdict.reason) for verdict in saturation(answer)}
    assert reasons == {"cloud": ("money", "the till is shut"), "gpu-1": ("schedule", "Backend is at its limit")}
    assert overload(answer) == "no backend can answer yet: the till is shut"
    assert what_would_help(saturation(answer), fleet.backends)["till"] == 1


def test_a_busy_model_does_not_fall_back(router, routing):
    fleet = make_fleet(make_backend("gpu-1", max_in_flight=1), make_backend("gpu-2", models=["qwen3"]))
    with_fallback = router(fallbacks={"llama3": ("qwen3",)})
    routing(with_fallback).next(fleet)

    assert isinstance(routing(with_fallback).next(fleet), Saturated)


def test_the_next_best_is_an_overflow_when_the_best_is_full(router, routing):
    fleet = make_fleet(make_backend("gpu-1", priority=0, max_in_flight=1), make_backend("gpu-2", priority=100))
    routing(router()).next(fleet)

    reserved = routing(router()).next(fleet)

    assert (reserved.backend.name, reserved.route_reason) == ("gpu-2", "capacity-overflow")


def test_a_better_backend_that_would_rather_have_a_request_wait_leaves_none_to_a_lower_priority(router, routing):
    better = {"slots": 2, "slots_are_reported": True, "priority": 0}
    fleet = make_fleet(make_backend("gpu-1", **better), make_backend("gpu-2", priority=100))
    for _ in range(4):
        assert routing(router()).next(fleet).backend.name == "gpu-1"

    waiting = routing(router()).next(fleet)
    sent = routing(router(), may_wait=False).next(fleet)

    assert isinstance(waiting, Saturated)
    assert (names(waiting), waiting.is_preference) == (["gpu-1"], True)
    assert sent.backend.name == "gpu-1"


def swapping(name):
    """Return a backend that would have to evict a model in use to load llama3."""
    backend = make_backend(name, kind="ollama", models=("llama3", "qwen3"), max_loaded_models=1)
    now = monotonic()
    backend.load.tell(EngineReport(at=now, due_at=now + 60, loaded=frozenset({"qwen3"})))
    backend.load.model("qwen3").in_flight = 1
    return backend


def test_a_backend_that_would_swap_models_in_use_is_passed_over_for_an_equal_one(router, routing):
    fleet = make_fleet(swapping("mac-1"), make_backend("mac-2", kind="ollama", models=("llama3",)))

    found = [routing(router()).next(fleet).backend.name for _ in range(4)]

    assert found == ["mac-2"] * 4


def test_a_request_waits_where_every_backend_would_swap_models_in_use(router, routing):
    fleet = make_fleet(swapping("mac-1"), swapping("mac-2"))

    waiting = routing(router()).next(fleet)

    assert isinstance(waiting, Saturated)
    assert set(names(waiting)) == {"mac-1", "mac-2"}
    assert 0 < waiting.retry_in_s <= 5
    assert {verdict.stage for verdict in waiting.waits_for} == {"residency"}
    assert routing(router(), may_wait=False).next(fleet).backend.name in {"mac-1", "mac-2"}


def test_an_equal_backend_with_a_free_slot_comes_before_waiting(router, routing):
    equals = [make_backend(name, slots=2, slots_are_reported=True) for name in ("gpu-1", "gpu-2")]
    fleet = make_fleet(*equals)
    asked = [routing(router()).next(fleet) for _ in range(9)]

    assert [type(found) for found in asked] == [Reserved] * 8 + [Saturated]
    assert [backend.load.in_flight for backend in equals] == [4, 4]


def test_an_exclusion_by_a_stage_named_privacy_is_the_reason_of_the_route(router, routing, stage):
    def no_cloud(intent):
        for backend in intent.candidates_in(zone="cloud"):
            intent.exclude(backend, stage="privacy", reason="data stays here")

    fleet = make_fleet(make_backend("gpu-1"), make_backend("openai", zone="cloud"))

    search = routing(router(stage(no_cloud, name="privacy")))
    reserved = search.next(fleet)

    assert (reserved.backend.name, reserved.route_reason) == ("gpu-1", "privacy-requirement")
    assert [verdict.backend for verdict in search.record.rounds[0].models[0].excluded] == ["openai"]


def test_an_avoided_backend_is_used_only_when_no_other_is_left(router, routing):
    fleet = make_fleet(
        make_backend("broken", priority=0, breaker=Breaker.OPEN),
        make_backend("steady", priority=100),
    )
    search = routing(router())

    assert [search.next(fleet).backend.name, search.next(fleet).backend.name] == ["steady", "broken"]


def test_waiting_for_a_busy_backend_beats_asking_a_failing_one(router, routing):
    fleet = make_fleet(make_backend("broken", breaker=Breaker.OPEN), make_backend("steady", max_in_flight=1))
    routing(router()).next(fleet)

    answer = routing(router()).next(fleet)

    assert isinstance(answer, Saturated)
    assert names(answer) == ["steady"]


class TestLastResort:
    @pytest.mark.parametrize("status", [Status.UNHEALTHY, Status.UNKNOWN, Status.LOADING])
    def test_a_sole_backend_is_asked_although_its_probes_fail(self, router, routing, status):
        found = routing(router()).next(make_fleet(make_backend("gpu-1", status=status)))

        assert (found.backend.name, found.route_reason) == ("gpu-1", "last-resort")
        assert found.reason == f"last_resort:gpu-1:{status}"

    def test_any_healthy_backend_comes_first_even_one_that_has_been_failing(self, router, routing):
        sick = make_backend("sick", status=Status.UNHEALTHY, priority=0)
        failing = make_backend("failing", breaker=Breaker.OPEN, priority=100)
        search = routing(router())

        asked = [search.next(make_fleet(sick, failing)).backend.name for _ in range(2)]

        assert asked == ["failing", "sick"]

    def test_a_healthy_fallback_comes_first(self, router, routing):
        fleet = make_fleet(make_backend("sick", status=Status.UNHEALTHY), make_backend("gpu-2", models=["qwen3"]))
        search = routing(router(fallbacks={"llama3": ("qwen3",)}))

        first, second = search.next(fleet), search.next(fleet)

        assert (first.backend.name, first.fallback_model) == ("gpu-2", "qwen3")
        assert (second.backend.name, second.model) == ("sick", "llama3")

    def test_a_healthy_backend_that_is_full_is_waited_for(self, router, routing):
        fleet = make_fleet(make_backend("sick", status=Status.UNHEALTHY), make_backend("full", max_in_flight=0))

        found = routing(router()).next(fleet)

        assert [backend.name for backend in found.backends] == ["full"]

    def test_a_sole_backend_that_is_full_is_waited_for_although_its_probes_fail(self, router, routing):
        fleet = make_fleet(make_backend("sick", status=Status.UNHEALTHY, max_in_flight=0))

        assert [backend.name for backend in routing(router()).next(fleet).backends] == ["sick"]

    def test_a_policy_holds_for_a_last_resort_too(self, router, routing, stage):
        def no(intent):
            for backend in intent:
                intent.exclude(backend, stage="no", reason="no")

        reject = routing(router(stage(no, name="no"))).next(make_fleet(make_backend(status=Status.UNHEALTHY)))

        assert reject.code == "rejected_by_policy"

    def test_a_backend_that_is_busy_comes_after_all_that_are_not(self, router, routing):
        busy = make_backend("busy", priority=0, is_busy=True)
        others = (make_backend("idle", priority=90), make_backend("failing", breaker=Breaker.OPEN))
        search = routing(router())

        asked = [search.next(make_fleet(busy, *others)).backend.name for _ in range(3)]

        assert asked == ["idle", "busy", "failing"]


class TestFallbacks:
    def test_a_fallback_is_used_when_no_healthy_backend_has_the_model(self, router, routing):
        fleet = make_fleet(make_backend("sick", status=Status.UNHEALTHY), make_backend("gpu-2", models=["qwen3"]))

        reserved = routing(router(fallbacks={"llama3": ("none", "qwen3")})).next(fleet)

        assert (reserved.backend.name, reserved.model, reserved.fallback_model) == ("gpu-2", "qwen3", "qwen3")
        assert reserved.route_reason == "failover"

    @pytest.mark.parametrize("trouble", [{"breaker": Breaker.OPEN}, {"is_cooling": True}, {"misconfigured": "no key"}])
    def test_a_fallback_that_is_well_goes_before_an_avoided_backend(self, router, routing, trouble):
        fleet = make_fleet(make_backend("gpu-1", **trouble), make_backend("gpu-2", models=["qwen3"]))
        search = routing(router(fallbacks={"llama3": ("qwen3",)}))

        first, second = search.next(fleet), search.next(fleet)

        assert (first.backend.name, first.fallback_model, first.route_reason) == ("gpu-2", "qwen3", "failover")
        assert (second.backend.name, second.fallback_model) == ("gpu-1", None)

    def test_of_a_chain_of_avoided_backends_the_model_asked_for_comes_first(self, router, routing):
        fleet = make_fleet(
            make_backend("gpu-1", breaker=Breaker.OPEN), make_backend("gpu-2", models=["qwen3"], is_cooling=True)
        )
        search = routing(router(fallbacks={"llama3": ("none", "qwen3")}))

        found = [search.next(fleet).backend.name, search.next(fleet).backend.name]
        reject = search.next(fleet)

        assert found == ["gpu-1", "gpu-2"]
        assert reject.code == "fallback_exhausted"
        assert [failure["model"] for failure in reject.context["failures"]] == ["llama3", "none", "qwen3"]

    def test_an_avoided_backend_is_asked_where_no_fallback_is_allowed(self, router, routing):
        fleet = make_fleet(make_backend("gpu-1", breaker=Breaker.OPEN), make_backend("gpu-2", models=["qwen3"]))
        strict = Policy(0, "llama*", fallback_allowed=False, keys={})

        reserved = routing(router(policies=[strict], fallbacks={"llama3": ("qwen3",)})).next(fleet)

        assert reserved.backend.name == "gpu-1"

    def test_a_fallback_is_used_when_every_backend_of_the_model_has_failed(self, router, routing):
        fleet = make_fleet(make_backend("gpu-1"), make_backend("gpu-2", models=["qwen3"]))
        search = routing(router(fallbacks={"llama3": ("qwen3",)}))

        assert [search.next(fleet).model, search.next(fleet).model] == ["llama3", "qwen3"]

    def test_one_backend_may_be_asked_for_the_model_and_then_for_its_fallback(self, router, routing):
        fleet = make_fleet(make_backend(models=["llama3", "qwen3"]))
        search = routing(router(fallbacks={"llama3": ("qwen3",)}))

        assert [search.next(fleet).model, search.next(fleet).model] == ["llama3", "qwen3"]

    def test_an_exhausted_chain_tells_the_chain_and_the_reasons(self, router, routing):
        fleet = make_fleet(make_backend(status=Status.UNHEALTHY, is_refusing=True))

        reject = routing(router(fallbacks={"llama3": ("qwen3", "phi")})).next(fleet)

        assert (reject.code, reject.retry_after_s) == ("fallback_exhausted", 5)
        assert reject.context["fallback_chain"] == ["llama3", "qwen3", "phi"]
        assert [failure["code"] for failure in reject.context["failures"]] == [
            "no_healthy_backend",
            "model_not_found",
            "model_not_found",
        ]
        assert reject.reasons[0].backend == "gpu-1"

    def test_a_backend_that_is_out_for_each_model_of_a_chain_alike_is_told_once(self, router, routing):
        fleet = make_fleet(make_backend("gpu-1", models=["llama3", "qwen3"], status=Status.UNHEALTHY, is_refusing=True))

        reject = routing(router(fallbacks={"llama3": ("qwen3",)})).next(fleet)

        assert [failure["model"] for failure in reject.context["failures"]] == ["llama3", "qwen3"]
        assert [verdict.backend for verdict in reject.reasons] == ["gpu-1"]
        assert [reason["agent_id"] for reason in reject.context["rejection_reasons"]] == ["gpu-1"]

    def test_a_policy_can_forbid_fallbacks(self, router, routing):
        fleet = make_fleet(
            make_backend("sick", status=Status.UNHEALTHY, is_refusing=True), make_backend("gpu-2", models=["qwen3"])
        )
        strict = Policy(0, "llama*", fallback_allowed=False, keys={})

        reject = routing(router(policies=[strict], fallbacks={"llama3": ("qwen3",)})).next(fleet)

        assert reject.code == "no_healthy_backend"

    def test_the_policy_of_the_model_asked_for_applies_to_a_fallback_beside_its_own(self, router, routing, stage):
        seen = []
        spy = stage(lambda intent: seen.append((intent.resolved_model, intent.policies_of("privacy"))))
        fleet = make_fleet(
            make_backend("sick", status=Status.UNHEALTHY, is_refusing=True), make_backend("gpu-2", models=["qwen3"])
        )
        policies = [Policy(0, "llama*", True, {"privacy": "strict"}), Policy(1, "*", True, {"privacy": "lax"})]

        routing(router(spy, policies=policies, fallbacks={"llama3": ("qwen3",)})).next(fleet)

        assert seen == [("llama3", ("strict",)), ("qwen3", ("strict", "lax"))]

    def test_a_fallback_keeps_its_own_policy_when_the_first_name_has_none(self, router, routing, stage):
        seen = []
        spy = stage(lambda intent: seen.append((intent.resolved_model, intent.policies_of("privacy"))))
        fleet = make_fleet(
            make_backend("sick", status=Status.UNHEALTHY, is_refusing=True), make_backend("gpu-2", models=["qwen3"])
        )
        policies = [Policy(0, "qwen*", True, {"privacy": "strict"})]

        routing(router(spy, policies=policies, fallbacks={"llama3": ("qwen3",)})).next(fleet)

        assert seen == [("llama3", ()), ("qwen3", ("strict",))]

    def test_where_only_one_of_both_names_has_a_policy_the_defaults_hold_for_the_other(self, router, routing, stage):
        seen = []
        spy = stage(lambda intent: seen.append((intent.resolved_model, intent.policies_of("privacy"))))
        fleet = make_fleet(
            make_backend("sick", status=Status.UNHEALTHY, is_refusing=True), make_backend("gpu-2", models=["qwen3"])
        )
        policies = Policies([Policy(0, "qwen*", True, {"privacy": "lax"})], {"privacy": "default"})
        chained = router(spy, fallbacks={"llama3": ("qwen3",), "qwen3": ("llama3",)})
        chained.policies = policies

        for model in ("llama3", "qwen3"):
            routing(chained, model).next(fleet)

        assert seen == [("llama3", ()), ("qwen3", ("default", "lax")), ("qwen3", ("lax",))]

    def test_every_policy_of_the_first_name_must_allow_a_fallback(self, router, routing):
        fleet = make_fleet(
            make_backend("sick", status=Status.UNHEALTHY, is_refusing=True), make_backend("gpu-2", models=["qwen3"])
        )
        policies = [Policy(0, "fast", True, {}), Policy(1, "llama*", fallback_allowed=False, keys={})]
        strict = router(policies=policies, aliases={"fast": "llama3"}, fallbacks={"llama3": ("qwen3",)})

        assert routing(strict, "fast").next(fleet).code == "no_healthy_backend"

    def test_a_fallback_that_is_an_alias_is_followed(self, router, routing):
        fleet = make_fleet(make_backend("gpu-2", models=["qwen3"]))
        chained = router(aliases={"small": "qwen3"}, fallbacks={"llama3": ("small",)})

        assert routing(chained).next(fleet).fallback_model == "qwen3"


class TestFailingStages:
    def test_a_stage_that_must_not_be_left_out_ends_the_request(self, router, routing, stage):
        broken = stage(lambda _: 1 / 0, name="privacy")
        fleet = make_fleet(make_backend(), make_backend("gpu-2", models=["qwen3"]))

        reject = routing(router(broken, fallbacks={"llama3": ("qwen3",)})).next(fleet)

        assert (reject.code, reject.context["stage"]) == ("policy_unavailable", "privacy")
        assert reject.context["available_backends"] == ["gpu-1", "gpu-2"]
        assert "'privacy'" in reject.message

    def test_a_stage_that_may_be_left_out_is(self, router, routing, stage):
        def closes_the_door_and_breaks(intent):
            for backend in intent:
                intent.exclude(backend, stage="quality", reason="never mind")
            raise ValueError

        fleet = make_fleet(make_backend())

        search = routing(router(stage(closes_the_door_and_breaks, name="quality", on_error="skip")))
        reserved = search.next(fleet)

        assert reserved.backend.name == "gpu-1"
        assert search.record.rounds[0].models[0].excluded == []

    def test_a_stage_that_fails_to_hold_leaves_no_slot_behind(self, router, routing, stage):
        broken = stage(name="budget", holds=lambda *_: 1 / 0)
        fleet = make_fleet(make_backend())

        reject = routing(router(broken)).next(fleet)

        assert reject.code == "policy_unavailable"
        assert fleet.backends[0].load.in_flight == 0


def test_a_client_that_asks_for_privacy_without_a_privacy_stage_is_refused(router, routing, stage):
    fleet, asked = make_fleet(make_backend()), {"x-nexus-privacy": "restricted"}

    reject = routing(router(), headers=asked).next(fleet)
    reserved = routing(router(stage(name="privacy")), headers=asked).next(fleet)

    assert reject.code == "unsupported_parameter"
    assert reject.message == "The header 'x-nexus-privacy' needs the stage 'privacy', which is not installed"
    assert reserved.backend.name == "gpu-1"


def test_the_search_goes_on_with_a_fresh_snapshot(router, routing):
    fleet = make_fleet(make_backend("gpu-1"))
    search = routing(router())
    search.next(fleet)
    grown = make_fleet(fleet.backends[0], make_backend("gpu-2"))

    assert search.next(grown).backend.name == "gpu-2"


def test_a_snapshot_with_the_same_backend_in_another_state_is_used(router, routing):
    backend = make_backend()
    subject = router()
    routing(subject).next(make_fleet(backend))

    reject = routing(subject).next(
        make_fleet(msgspec.structs.replace(backend, status=Status.UNHEALTHY, is_refusing=True))
    )

    assert reject.code == "no_healthy_backend"


def test_another_backend_is_reserved_while_the_first_is_still_asked(router, routing):
    fleet = make_fleet(make_backend("gpu-1", priority=1), make_backend("gpu-2", priority=90))
    search = routing(router())
    first = search.next(fleet)

    rivals = [backend.name for backend, _ in search.record.rivals_of(first)]
    another = search.another(fleet)

    assert rivals == ["gpu-2"]
    assert (another.backend.name, another.route_reason) == ("gpu-2", "failover")
    assert [backend.load.in_flight for backend in fleet.backends] == [1, 1]
    assert len(search.record.rounds) == 2
    assert search.another(fleet) is None


@pytest.mark.parametrize(
    "fields",
    [{"breaker": Breaker.OPEN}, {"status": Status.UNHEALTHY}, {"in_flight": 1, "max_in_flight": 1}],
    ids=["failing", "unhealthy", "full"],
)
def test_another_backend_that_is_not_well_or_free_is_none(router, routing, fields):
    fleet = make_fleet(make_backend("gpu-1", priority=1), make_backend("gpu-2", priority=90, **fields))
    search = routing(router())
    search.next(fleet)
    held = fleet.backends[1].load.in_flight

    assert search.another(fleet) is None
    assert fleet.backends[1].load.in_flight == held
    assert len(search.record.rounds) == 1


@pytest.mark.parametrize(
    ("wants", "number", "is_hashed"), [(True, 2, True), (False, 2, False), (True, 1, False), (True, 0, False)]
)
def test_prompts_are_hashed_if_a_stage_wants_it_and_has_a_choice(router, stage, wants, number, is_hashed):
    fleet = make_fleet(*[make_backend(f"gpu-{each}") for each in range(number)])

    is_wanted = router(stage(wants_prompt_blocks=wants)).marks_wanted(fleet)

    assert (is_wanted is not None and is_wanted("llama3")) is is_hashed


@pytest.mark.parametrize(("length", "kept"), [(MAX_RECORDED_BLOCKS, MAX_RECORDED_BLOCKS), (MAX_RECORDED_BLOCKS + 1, 0)])
def test_the_record_of_a_decision_keeps_no_hashes_of_a_long_prompt(router, routing, stage, length, kept):
    seen = []
    blocks = tuple(range(length))
    search = routing(router(stage(lambda intent: seen.append(intent.requirements.prompt_blocks))), prompt_blocks=blocks)

    search.next(make_fleet(make_backend()))

    assert seen == [blocks]
    assert len(search.record.request.requirements.prompt_blocks) == kept


def test_a_backend_whose_reservation_was_given_back_is_tried_again(router, routing, settle):
    fleet = make_fleet(make_backend())
    search = routing(router())

    first = search.next(fleet)
    settle(first)
    search.give_back(first)
    again = search.next(fleet)

    assert isinstance(again, Reserved)
    assert again.route_reason == "capability-match"
