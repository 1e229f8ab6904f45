"""Rejections: what the client and the operator are told when no backend may or can answer."""

import pytest

from nexus.domain.backend import Status
from nexus.domain.model import ModelFacts
from nexus.domain.request import Endpoint
from nexus.fleet.kinds import KINDS
from nexus.routing.decision import Reject, Reserved
from nexus.routing.policies import Policy
from nexus.routing.stage.api import Refusal
from nexus.testing.builders import make_backend, make_fleet


def denying(*capabilities, **facts):
    """Return a model that lacks *capabilities* according to the operator."""
    lacking = dict.fromkeys(capabilities, False)
    return ModelFacts(name="llama3", denied=frozenset(capabilities), **lacking, **facts)


def short(name="gpu-1", **fields):
    return make_backend(name, models=[ModelFacts(name="llama3", context_length=1024)], **fields)


OLLAMA_CHAT = Endpoint("ollama.chat", "ollama", "/api/chat", streams_by_default=True)


class TestUnknownModel:
    def test_it_is_rejected_at_once_with_the_available_models(self, router, routing):
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

    def test_a_chain_of_unknown_models_suggests_near_names_of_each(self, router, routing):
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

    def test_a_fleet_without_models_says_so(self, router, routing):
        reject = routing(router(), "gpt-9").next(make_fleet())

        assert (reject.code, reject.message) == ("model_not_found", "Model 'gpt-9' not found. No models available")

    def test_long_names_and_long_lists_are_cut(self, router, routing):
        fleet = make_fleet(make_backend(models=[f"model-{number:03}" for number in range(500)]))

        reject = routing(router(), "x" * 100_000).next(fleet)

        assert len(reject.message) < 800
        assert reject.message.endswith("model-019 and 480 more")

    def test_it_is_not_called_unknown_before_any_backend_was_healthy(self, router, routing):
        fleet = make_fleet(make_backend(models=[], status=Status.UNKNOWN))

        assert routing(router()).next(fleet).code == "no_healthy_backend"


class TestNoBackendLeft:
    def test_a_model_that_is_not_served_over_this_protocol_names_those_it_is_served_over(self, router, routing):
        fleet = make_fleet(make_backend(endpoints=frozenset({"openai.chat", "anthropic.messages"})))

        reject = routing(router(), endpoint=OLLAMA_CHAT).next(fleet)

        assert reject.code == "protocol_not_supported"
        assert reject.message == (
            "Model 'llama3' is not served over the ollama protocol; it is served over: anthropic, openai"
        )
        assert reject.context["served_protocols"] == ["anthropic", "openai"]

    def test_an_endpoint_that_is_not_served_names_those_of_the_protocol_that_are(self, router, routing):
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
    def test_no_healthy_backend_names_the_healthy_ones_of_other_models(self, router, routing, state, reason):
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
        assert reject.message == "Request for model 'llama3' rejected: 1 backend excluded by tier: tier 1"
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
        from nexus.error_codes import REPLY_CODES
        from nexus.routing.rejections import HARDNESS

        assert HARDNESS.keys() <= REPLY_CODES


@pytest.mark.parametrize(
    ("code", "context"),
    [
        ("context_length_exceeded", {"context_length": "long"}),
        ("context_length_exceeded", None),
        ("capability_mismatch", {"missing_capabilities": 5}),
        ("capability_mismatch", {"missing_capabilities": [1, None]}),
    ],
)
def test_a_core_code_with_unexpected_facts_still_rejects(router, routing, stage, code, context):
    def exclude(intent):
        for backend in intent:
            intent.exclude(backend, stage="rogue", reason="for the test", code=code, context=context)

    reject = routing(router(stage(exclude, name="rogue"))).next(make_fleet(make_backend()))

    assert reject.code == code


def test_a_refusal_carries_its_action_and_context(router, routing, stage):
    refusal = Refusal("it costs too much", action="wait for May", context={"limit_usd": 1.0})

    reject = routing(router(stage(holds=lambda *_: refusal))).next(make_fleet(make_backend()))

    assert isinstance(reject, Reject)
    assert [(v.reason, v.action) for v in reject.reasons] == [("it costs too much", "wait for May")]
    assert reject.context["limit_usd"] == 1.0
