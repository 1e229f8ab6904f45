"""The search for a backend: who is asked, in which order, and what is said when nobody is left."""

import msgspec
import pytest

from nexus.domain.backend import Breaker, Status
from nexus.domain.model import ModelFacts
from nexus.domain.outcome import Ending
from nexus.domain.request import Endpoint
from nexus.fleet.kinds import KINDS
from nexus.routing.decision import Reject, Reserved, Saturated
from nexus.routing.policies import Policies, Policy
from nexus.routing.rejections import overload, saturation, what_would_help
from nexus.routing.stage.api import Refusal
from nexus.testing.builders import make_backend, make_fleet


def denying(*capabilities, **facts):
    """Return a model of which the operator says that it lacks these."""
    lacking = dict.fromkeys(capabilities, False)
    return ModelFacts(name="llama3", denied=frozenset(capabilities), **lacking, **facts)


def short(name="gpu-1", **fields):
    return make_backend(name, models=[ModelFacts(name="llama3", context_length=1024)], **fields)


OLLAMA_CHAT = Endpoint("ollama.chat", "ollama", "/api/chat", streams_by_default=True)


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


def test_when_all_have_been_tried_nobody_is_left(router, routing):
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


def test_what_a_stage_cannot_hold_yet_is_said_in_its_own_words(router, routing, stage):
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


def test_a_backend_that_a_stage_named_privacy_took_out_is_the_reason_of_the_route(router, routing, stage):
    def no_cloud(intent):
        for backend in intent.candidates_in(zone="cloud"):
            intent.exclude(backend, stage="privacy", reason="data stays here")

    fleet = make_fleet(make_backend("gpu-1"), make_backend("openai", zone="cloud"))

    search = routing(router(stage(no_cloud, name="privacy")))
    reserved = search.next(fleet)

    assert (reserved.backend.name, reserved.route_reason) == ("gpu-1", "privacy-requirement")
    assert [verdict.backend for verdict in search.record.rounds[0].models[0].excluded] == ["openai"]


def test_an_avoided_backend_is_asked_only_when_nobody_else_is_left(router, routing):
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


class TestUnknownModel:
    def test_it_is_said_at_once_with_the_models_there_are(self, router, routing):
        fleet = make_fleet(make_backend(models=["b", "c"]), make_backend("gpu-2", models=["a"]))

        reject = routing(router(), "gpt-9").next(fleet)

        assert reject.code == "model_not_found"
        assert reject.message == "Model 'gpt-9' not found. Available: a, b, c"

    def test_near_names_come_first(self, router, routing):
        fleet = make_fleet(make_backend(models=["llama3.2:3b", "qwen3"]))

        reject = routing(router(), "llama3.2").next(fleet)

        assert reject.message == (
            "Model 'llama3.2' not found. Did you mean 'llama3.2:3b'? Available: llama3.2:3b, qwen3"
        )
        assert reject.context == {"did_you_mean": ("llama3.2:3b",)}

    def test_a_chain_in_which_no_model_is_known_says_what_was_meant_by_each(self, router, routing):
        fleet = make_fleet(make_backend(models=["llama3.2:3b", "qwen3:8b"]))

        reject = routing(router(fallbacks={"llama3.2": ("qwen3",)}), "llama3.2").next(fleet)

        assert reject.context["did_you_mean"] == ("llama3.2:3b", "qwen3:8b")

    def test_models_that_no_backend_can_be_asked_for_are_not_named(self, router, routing):
        gone = make_backend("gpu-2", models=["secret"], status=Status.DRAINING)
        fleet = make_fleet(make_backend(models=["qwen3"]), gone)

        assert routing(router(), "gpt-9").next(fleet).message == "Model 'gpt-9' not found. Available: qwen3"

    def test_a_loose_tag_that_leads_to_one_model_is_taken_as_an_alias(self, router, routing):
        fleet = make_fleet(make_backend(models=["llama3.2:3b", "qwen3"]))

        reserved = routing(router(loose_tags=True), "llama3.2").next(fleet)

        assert (reserved.model, reserved.resolved_model, reserved.fallback_model) == (
            "llama3.2:3b",
            "llama3.2:3b",
            None,
        )

    def test_a_loose_tag_that_leads_to_two_is_refused_with_both(self, router, routing):
        fleet = make_fleet(make_backend(models=["llama3.2:3b", "llama3.2:1b"]))

        reject = routing(router(loose_tags=True), "llama3.2").next(fleet)

        assert reject.code == "model_not_found"
        assert "name 'llama3.2:1b' or 'llama3.2:3b'." in reject.message

    def test_a_policy_of_the_model_holds_under_a_loose_tag(self, router, routing):
        fleet = make_fleet(make_backend(models=["llama3.2:3b"]))
        with_policy = router(loose_tags=True, policies=[Policy(0, "llama3.2:3b", True, {})])
        search = routing(with_policy, "llama3.2")

        search.next(fleet)

        assert [policy.model_pattern for policy in search.policies] == ["llama3.2:3b"]

    def test_it_is_said_when_there_are_none(self, router, routing):
        reject = routing(router(), "gpt-9").next(make_fleet())

        assert (reject.code, reject.message) == ("model_not_found", "Model 'gpt-9' not found. No models available")

    def test_long_names_and_long_lists_are_cut(self, router, routing):
        fleet = make_fleet(make_backend(models=[f"model-{number:03}" for number in range(500)]))

        reject = routing(router(), "x" * 100_000).next(fleet)

        assert len(reject.message) < 800
        assert reject.message.endswith("model-019 and 480 more")

    def test_it_is_no_guess_while_nobody_has_been_seen_healthy(self, router, routing):
        fleet = make_fleet(make_backend(models=[], status=Status.UNKNOWN))

        assert routing(router()).next(fleet).code == "no_healthy_backend"


class TestNobodyLeft:
    def test_a_model_that_nobody_serves_over_this_protocol_names_the_ones_that_it_is_served_over(self, router, routing):
        fleet = make_fleet(make_backend(endpoints=frozenset({"openai.chat", "anthropic.messages"})))

        reject = routing(router(), endpoint=OLLAMA_CHAT).next(fleet)

        assert reject.code == "protocol_not_supported"
        assert reject.message == (
            "Model 'llama3' is not served over the ollama protocol; it is served over: anthropic, openai"
        )
        assert reject.context["served_protocols"] == ["anthropic", "openai"]

    def test_an_endpoint_of_the_protocol_that_nobody_serves_names_those_they_serve(self, router, routing):
        fleet = make_fleet(make_backend(endpoints=frozenset({"ollama.generate"})))

        reject = routing(router(), endpoint=OLLAMA_CHAT).next(fleet)

        assert reject.message == "Model 'llama3' is not served at /api/chat; its backends serve: ollama.generate"

    @pytest.mark.parametrize("status", [Status.UNKNOWN, Status.UNHEALTHY])
    def test_what_a_backend_serves_that_has_never_answered_is_a_matter_of_health(self, router, routing, status):
        unheard = make_backend("unheard", endpoints=frozenset(), status=status)
        other = make_backend("other", endpoints=frozenset({"anthropic.messages"}))

        reject = routing(router(), endpoint=OLLAMA_CHAT).next(make_fleet(unheard, other))

        assert (reject.code, reject.retry_after_s) == ("no_healthy_backend", 5)
        assert ("unheard", "no_healthy_backend") in [(verdict.backend, verdict.code) for verdict in reject.reasons]

    def test_a_missing_capability_is_the_request_s_fault(self, router, routing):
        fleet = make_fleet(make_backend(models=[denying("vision", "tools", json_mode=True)]))

        reject = routing(router(), needs_vision=True, needs_tools=True, needs_json=True).next(fleet)

        assert reject.code == "capability_mismatch"
        assert reject.message == "Model 'llama3' lacks required capabilities: tools, vision"
        assert reject.context == {"missing_capabilities": ["tools", "vision"]}

    def test_what_a_server_says_its_model_lacks_only_makes_others_preferred(self, router, routing):
        blind = make_backend("blind", models=[ModelFacts(name="llama3", vision=False)], priority=1)
        fleet = make_fleet(blind, make_backend("other", priority=99))

        alone = routing(router(), needs_vision=True).next(make_fleet(blind))
        both = routing(router(), needs_vision=True).next(fleet)

        assert (alone.backend.name, both.backend.name) == ("blind", "other")

    def test_what_is_unknown_about_a_model_never_excludes_it(self, router, routing):
        fleet = make_fleet(make_backend())

        answer = routing(router(), needs_vision=True, needs_embeddings=True, prompt_tokens=10**6).next(fleet)

        assert isinstance(answer, Reserved)

    @pytest.mark.parametrize("kind", sorted(KINDS))
    def test_an_estimate_refuses_nothing(self, router, routing, kind):
        fleet = make_fleet(short(kind=kind, endpoints=frozenset({"openai.chat"})))

        found = routing(router(), prompt_tokens=100_000, max_tokens=1024).next(fleet)

        assert isinstance(found, Reserved)

    @pytest.mark.parametrize("kind", sorted(KINDS))
    def test_by_an_estimate_a_longer_context_is_preferred(self, router, routing, kind):
        fleet = make_fleet(
            short("small", kind=kind, endpoints=frozenset({"openai.chat"}), priority=1),
            make_backend("large", models=[ModelFacts(name="llama3", context_length=8192)], in_flight=60, priority=60),
        )
        search = routing(router(), prompt_tokens=2000)

        assert search.next(fleet).backend.name == "large"
        weighed = search.record.rounds[0].models[0].weights
        assert [(v.backend, v.stage, v.reason) for v in weighed] == [
            ("small", "analyze", "About 2000 tokens may exceed the context of 1024")
        ]

    @pytest.mark.parametrize("kind", sorted(set(KINDS) - {"vllm"}))
    def test_an_engine_that_cuts_long_answers_may_be_asked_for_them(self, router, routing, kind):
        fleet = make_fleet(short(kind=kind, endpoints=frozenset({"openai.chat"})))

        found = routing(router(), prompt_tokens=1000, prompt_token_ids=2000, max_tokens=100_000).next(fleet)

        assert isinstance(found, Reserved)

    @pytest.mark.parametrize(("max_tokens", "fits"), [(None, True), (24, True), (25, False)])
    def test_vllm_is_not_asked_for_more_than_its_context_for_certain(self, router, routing, max_tokens, fits):
        fleet = make_fleet(short(kind="vllm"))

        answer = routing(router(), prompt_tokens=1000, prompt_token_ids=1000, max_tokens=max_tokens).next(fleet)

        assert isinstance(answer, Reserved) is fits

    def test_it_is_asked_where_it_lowers_the_limit_of_the_answer_instead(self, router, routing):
        responses = Endpoint("openai.responses", "openai", "/v1/responses")

        answer = routing(router(), endpoint=responses, max_tokens=100_000).next(make_fleet(short(kind="vllm")))

        assert isinstance(answer, Reserved)

    def test_a_request_that_is_too_long_says_by_how_much(self, router, routing):
        fleet = make_fleet(short(kind="vllm"))

        reject = routing(router(), prompt_tokens=1000, prompt_token_ids=1000, max_tokens=500).next(fleet)

        assert reject.code == "context_length_exceeded"
        assert reject.message == (
            "This model's maximum context length is 1024 tokens. However, you requested 1500 tokens"
            " (1000 in the prompt, 500 in the completion). Please reduce the length of the prompt or completion."
        )
        assert reject.context == {"context_length": 1024, "needed_tokens": 1500, "prompt_tokens": 1000}

    @pytest.mark.parametrize(
        ("state", "reason"),
        [
            ({"status": Status.DRAINING}, "Backend unhealthy: Draining"),
            (
                {"status": Status.UNHEALTHY, "is_refusing": True},
                "Backend unhealthy: Unhealthy, nothing listens at its address",
            ),
        ],
    )
    def test_nobody_healthy_names_who_is_healthy_elsewhere(self, router, routing, state, reason):
        fleet = make_fleet(make_backend(**state), make_backend("other", models=["qwen3"]))

        reject = routing(router()).next(fleet)

        assert (reject.code, reject.message) == (
            "no_healthy_backend",
            "No healthy backend available for model 'llama3'",
        )
        assert reject.context["available_backends"] == ["other"]
        assert reject.context["rejection_reasons"][0]["reason"] == reason
        assert reject.retry_after_s == 5

    def test_a_request_that_a_sick_backend_could_serve_is_not_the_client_s_fault(self, router, routing):
        fleet = make_fleet(
            make_backend("blind", models=[denying("vision")]),
            make_backend("sick", status=Status.UNHEALTHY, is_refusing=True),
        )

        assert routing(router(), needs_vision=True).next(fleet).code == "no_healthy_backend"

    def test_a_sick_backend_that_lacks_the_capability_too_changes_nothing(self, router, routing):
        facts = [denying("vision")]
        fleet = make_fleet(
            make_backend("blind", models=facts), make_backend("sick", models=facts, status=Status.UNHEALTHY)
        )

        assert routing(router(), needs_vision=True).next(fleet).code == "capability_mismatch"

    def test_a_policy_says_what_it_demands(self, router, routing, stage):
        def tier(intent):
            for backend in intent:
                intent.exclude(backend, stage="tier", reason="tier 1", action="ask less", context={"required_tier": 3})

        reject = routing(router(stage(tier, name="tier"))).next(make_fleet(make_backend()))

        assert reject.code == "rejected_by_policy"
        assert reject.message == "Request for model 'llama3' rejected: 1 backend excluded by tier"
        assert reject.retry_after_s == 30
        assert reject.context == {
            "available_backends": ["gpu-1"],
            "required_tier": 3,
            "rejection_reasons": [
                {"agent_id": "gpu-1", "reconciler": "tier", "reason": "tier 1", "suggested_action": "ask less"}
            ],
            "suggested_actions": ["ask less"],
        }

    def test_a_stage_that_refuses_to_hold_rejects_like_one_that_excludes(self, router, routing, stage):
        broke = stage(name="budget", holds=lambda *_: Refusal("the month is spent"))

        reject = routing(router(broke)).next(make_fleet(make_backend()))

        assert reject.code == "rejected_by_policy"
        assert [(v.stage, v.reason) for v in reject.reasons] == [("budget", "the month is spent")]

    def test_every_code_has_a_status(self, router, routing):
        from nexus.errors import STATUS_OF_CODE
        from nexus.routing.rejections import HARDNESS

        assert HARDNESS.keys() <= STATUS_OF_CODE.keys()


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
    def test_a_fallback_is_used_when_nobody_has_the_model_healthy(self, router, routing):
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

    def test_the_first_names_policy_holds_for_the_whole_chain_beside_the_fallbacks_own(self, router, routing, stage):
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


def test_a_client_that_asks_for_privacy_where_no_stage_hears_it_is_refused(router, routing, stage):
    fleet, asked = make_fleet(make_backend()), {"x-nexus-privacy": "restricted"}

    reject = routing(router(), headers=asked).next(fleet)
    reserved = routing(router(stage(name="privacy")), headers=asked).next(fleet)

    assert reject.code == "unsupported_parameter"
    assert reject.message == ("The header 'x-nexus-privacy' needs the stage 'privacy', which is not installed")
    assert reserved.backend.name == "gpu-1"


def test_the_search_goes_on_with_a_fresh_snapshot(router, routing):
    fleet = make_fleet(make_backend("gpu-1"))
    search = routing(router())
    search.next(fleet)
    grown = make_fleet(fleet.backends[0], make_backend("gpu-2"))

    assert search.next(grown).backend.name == "gpu-2"


def test_a_request_of_a_name_that_changes_nothing_is_remembered_only_so_long(router, monkeypatch):
    monkeypatch.setattr("nexus.routing.router.MAX_CACHED_RESOLUTIONS", 10)
    fleet, subject = make_fleet(make_backend()), router()

    for number in range(100):
        subject.resolve(f"model-{number}", fleet)

    assert len(subject._resolutions) <= 10


def test_a_snapshot_with_the_same_backend_in_another_state_is_believed(router, routing):
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
