"""Explanations: of decisions that would be made, without side effects, and of decisions that were made."""

import msgspec
import pytest

from nexus.config.schema import PolicyKeys
from nexus.domain.backend import Breaker, Status
from nexus.domain.outcome import AttemptOutcome, Ending, ExchangeOutcome
from nexus.domain.request import Requirements
from nexus.routing.decision import Reject
from nexus.routing.decision_record import Request
from nexus.routing.explain.build import as_explanation, decided
from nexus.routing.explain.model import Explanation
from nexus.routing.policies import Policy
from nexus.routing.stage.api import Refusal
from nexus.testing.builders import CHAT, make_backend, make_fleet
from tests.support.dry_runs import explain


class Keys(PolicyKeys, frozen=True):
    """Keys that a plugin owns."""

    privacy: str = "restricted"


@pytest.fixture
def no_cloud(stage):
    def exclude(intent):
        for backend in intent.candidates_in(zone="cloud"):
            intent.exclude(backend, stage="privacy", reason="data stays here", action="use a local model")

    return stage(exclude, name="privacy", priority=200)


def request(model="llama3", headers=None, **requirements):
    return Request("r-1", CHAT, Requirements(model=model, **requirements), headers or {}, 1_777_777_777.0)


def said(model, stage):
    return next(report for report in model.stages if report.stage == stage)


class TestWhatWouldBeDecided:
    def test_the_request_is_told_without_anything_of_its_prompt(self, router):
        asked = request(
            prompt_tokens=9, max_tokens=5, needs_tools=True, is_stream=True, headers={"x-nexus-strict": "true"}
        )

        told = explain(router(), asked, make_fleet(make_backend())).request

        assert (told.model, told.endpoint, told.path, told.protocol) == (
            "llama3",
            "openai.chat",
            "/v1/chat/completions",
            "openai",
        )
        assert (told.prompt_tokens, told.max_tokens, told.needs, told.is_stream) == (9, 5, ("tools",), True)
        assert told.hints == {"x-nexus-strict": "true"}

    def test_a_request_that_is_rejected_at_once_has_no_models_and_no_backends(self, router):
        told = explain(router(), request(headers={"x-nexus-privacy": "yes"}), make_fleet(make_backend()))

        assert (told.rounds[0].models, told.why_not, told.decision.code) == ((), (), "unsupported_parameter")

    def test_only_policies_that_are_written_are_told(self, router):
        fleet = make_fleet(make_backend(models=["qwen3"]))
        chained = router(policies=[Policy(0, "qwen*", True, {})], fallbacks={"llama3": ("qwen3",)})

        told = explain(chained, request(), fleet)

        assert [policy.model_pattern for policy in told.policies] == ["qwen*"]
        assert [model.policies for model in told.rounds[0].models] == [(), (0,)]

    def test_each_stage_is_told_with_its_place_its_time_and_what_it_said(self, router, no_cloud):
        fleet = make_fleet(make_backend("gpu-1"), make_backend("openai", zone="cloud"))

        (model,) = explain(router(no_cloud), request(), fleet).rounds[0].models
        privacy = said(model, "privacy")

        assert [report.stage for report in model.stages] == ["analyze", "privacy", "schedule"]
        assert (privacy.plugin, privacy.priority, privacy.observes) == ("privacy", 200, False)
        assert privacy.microseconds > 0
        assert [(r.backend, r.reason, r.suggested_action, r.code) for r in privacy.excluded] == [
            ("openai", "data stays here", "use a local model", "rejected_by_policy")
        ]
        assert model.candidates == {"gpu-1": "llama3", "openai": "llama3"}

    def test_what_a_stage_avoids_and_weighs_is_told(self, router, stage):
        def prefer(intent):
            for backend in intent:
                intent.avoid(backend, stage="quality", reason="fails now and then")
                intent.weigh(backend, 0.5, stage="quality", reason="slow")

        fleet = make_fleet(make_backend("gpu-1"), make_backend("gpu-2", priority=90))

        (model,) = explain(router(stage(prefer, name="quality")), request(), fleet).rounds[0].models
        quality, best = said(model, "quality"), model.ranking[0]

        assert [r.factor for r in quality.avoided] == [None, None]
        assert [r.factor for r in quality.weighed] == [0.5, 0.5]
        assert [(f.stage, f.factor, f.reason) for f in best.factors] == [("quality", 0.5, "slow")]
        assert best.is_avoided
        assert best.score == sum(part.adds for part in best.parts) * 0.5

    def test_what_a_stage_would_have_done_is_told(self, router, no_cloud):
        fleet = make_fleet(make_backend("openai", zone="cloud"))

        explanation = explain(router(no_cloud, observe=["privacy"]), request(), fleet)
        privacy = said(explanation.rounds[0].models[0], "privacy")

        assert privacy.observes
        assert [r.backend for r in privacy.would_have] == ["openai"]
        assert explanation.decision.backend == "openai"

    def test_a_stage_is_asked_on_what_it_judges_and_sees_all_candidates(self, router, no_cloud):
        no_cloud.explain = lambda intent: {"zones": {b.name: intent.zone_of(b) for b in intent}}
        type(no_cloud).explain = lambda self, intent: self.__dict__["explain"](intent)
        fleet = make_fleet(make_backend("gpu-1"), make_backend("openai", zone="cloud"))

        try:
            (model,) = explain(router(no_cloud), request(), fleet).rounds[0].models
        finally:
            del type(no_cloud).explain

        assert said(model, "privacy").facts == {"zones": {"gpu-1": "restricted", "openai": "open"}}

    def test_all_policies_that_apply_are_told_and_for_which_model(self, router, stage):
        policies = [Policy(0, "llama*", True, {"privacy": Keys()}), Policy(1, "phi*", True, {"privacy": Keys("open")})]
        subject = router(stage(name="privacy"), policies=policies, fallbacks={"llama3": ("phi3",)})

        explanation = explain(subject, request(), make_fleet(make_backend(models=["phi3"])))

        assert [(p.index, p.model_pattern, p.keys) for p in explanation.policies] == [
            (0, "llama*", {"privacy": {"privacy": "restricted"}}),
            (1, "phi*", {"privacy": {"privacy": "open"}}),
        ]
        assert [model.policies for model in explanation.rounds[0].models] == [(0,), (0, 1)]

    def test_it_follows_the_chain_to_the_first_model_with_a_backend(self, router):
        fleet = make_fleet(make_backend("sick", status=Status.UNHEALTHY), make_backend("gpu-2", models=["qwen3"]))

        explanation = explain(router(fallbacks={"llama3": ("phi", "qwen3")}), request(), fleet)

        assert [model.requested for model in explanation.rounds[0].models] == ["llama3", "phi", "qwen3"]
        assert explanation.rounds[0].models[1].stages == ()
        assert (explanation.decision.backend, explanation.decision.fallback_model) == ("gpu-2", "qwen3")
        assert explanation.decision.route_reason == "failover"

    def test_backends_at_their_limit_are_listed_when_a_request_would_wait(self, router):
        backend = make_backend("gpu-1", max_in_flight=0)

        explanation = explain(router(), request(), make_fleet(backend))

        assert (explanation.decision.decision, explanation.decision.full) == ("queue", ("gpu-1",))
        assert explanation.rounds[0].models[0].ranking[0].is_full

    def test_a_request_that_may_not_wait_is_refused(self, router):
        refusal = Reject("queue_full", "the queue is full", retry_after_s=3)

        explanation = explain(
            router(), request(), make_fleet(make_backend(max_in_flight=0)), instead_of_waiting=refusal
        )

        assert (explanation.decision.decision, explanation.decision.code) == ("reject", "queue_full")
        assert (explanation.decision.status, explanation.decision.full) == (503, ("gpu-1",))

    def test_a_rejection_says_what_would_help(self, router, no_cloud):
        fleet = make_fleet(make_backend("openai", zone="cloud"), make_backend("gpu-1", models=["qwen3"]))

        decision = explain(router(no_cloud), request(), fleet).decision

        assert (decision.decision, decision.code, decision.status) == ("reject", "rejected_by_policy", 503)
        assert decision.helps == ("use a local model",)
        assert decision.context["available_backends"] == ["gpu-1", "openai"]
        assert decision.retry_after_s == 30

    def test_a_stage_that_would_hold_nothing_is_asked_and_holds_nothing(self, router, stage):
        budget = stage(name="budget", holds=lambda *_: pytest.fail("nothing may be held"))
        type(budget).would_refuse = lambda self, intent, backend: (
            Refusal("too dear") if self.name == "budget" and backend.name == "openai" else None
        )
        fleet = make_fleet(make_backend("openai", priority=0), make_backend("gpu-1"))

        try:
            explanation = explain(router(budget), request(), fleet)
        finally:
            del type(budget).would_refuse

        assert explanation.decision.backend == "gpu-1"
        assert "too dear" in explanation.why_not[0].why

    def test_a_stage_that_fails_ends_it_as_it_would_end_the_request(self, router, stage):
        explanation = explain(router(stage(lambda _: 1 / 0, name="tier")), request(), make_fleet(make_backend()))

        assert (explanation.decision.code, explanation.decision.status) == ("policy_unavailable", 503)
        assert [s.microseconds is None for s in explanation.rounds[0].models[0].stages] == [False, True, True]
        assert "stage 'tier' failed" in explanation.why_not[0].why


class TestNothingIsTouched:
    def test_no_slot_is_taken_and_no_breaker_probed(self, router):
        backend = make_backend(breaker=Breaker.HALF_OPEN)

        explain(router(), request(), make_fleet(backend))

        assert (backend.load.in_flight, backend.load.probing, backend.load.requests_total) == (0, False, 0)

    def test_no_turn_is_used_up(self, router, routing, settle):
        fleet = make_fleet(*(make_backend(f"gpu-{number}") for number in range(3)))
        subject, chosen = router(strategy="round_robin"), []

        for _ in range(3):
            expected = explain(subject, request(), fleet).decision.backend
            reserved = routing(subject).next(fleet)
            settle(reserved)
            chosen.append((expected, reserved.backend.name))

        assert chosen == [("gpu-0", "gpu-0"), ("gpu-1", "gpu-1"), ("gpu-2", "gpu-2")]

    def test_explaining_does_not_change_the_random_numbers(self, router, routing, settle):
        fleet = make_fleet(*(make_backend(f"gpu-{number}") for number in range(9)))
        asked, left_alone = router(strategy="random"), router(strategy="random")

        for _ in range(5):
            expected = explain(asked, request(), fleet).decision.backend
            one, other = routing(asked).next(fleet), routing(left_alone).next(fleet)
            settle(one)
            settle(other)

            assert expected == one.backend.name == other.backend.name


class TestWhatScoresAreMadeOf:
    def test_smart(self, router):
        backend = make_backend("gpu-1", priority=10)

        (choice,) = explain(router(), request(), make_fleet(backend)).rounds[0].models[0].ranking

        assert [(p.name, p.value, p.points, p.weight, p.adds) for p in choice.parts] == [
            ("priority", 10, 90, 50, 45.0),
            ("load", 0, 100, 30, 30.0),
            ("latency", None, 100, 20, 20.0),
        ]
        assert choice.score == 95

    @pytest.mark.parametrize(
        ("strategy", "part"),
        [("round_robin", "turn"), ("least_loaded", "load"), ("priority_only", "priority"), ("random", "chance")],
    )
    def test_every_other_strategy_has_one_part(self, router, strategy, part):
        fleet = make_fleet(make_backend("gpu-1"), make_backend("gpu-2"))

        ranking = explain(router(strategy=strategy), request(), fleet).rounds[0].models[0].ranking

        assert [[p.name for p in choice.parts] for choice in ranking] == [[part], [part]]
        assert [choice.parts[0].adds for choice in ranking] == [choice.score for choice in ranking]


class TestWhatWasDecided:
    @pytest.fixture
    def fleet(self):
        return make_fleet(make_backend("gpu-1", priority=0), make_backend("gpu-2"))

    def test_all_rounds_of_a_request_are_in_one_record(self, router, routing, settle, fleet):
        search = routing(router())
        settle(search.next(fleet), Ending.BACKEND_FAILED)
        settle(search.next(fleet))

        told = as_explanation(search.record)

        assert told.source == "request"
        assert [found.decision.backend for found in told.rounds] == ["gpu-1", "gpu-2"]
        assert told.decision == told.rounds[-1].decision
        assert told.outcome is None

    def test_it_is_told_as_it_was(self, router, routing, fleet):
        search = routing(router())
        search.next(fleet)
        ranking = as_explanation(search.record).rounds[0].models[0].ranking

        search.next(make_fleet(make_backend("gpu-3")))

        assert fleet.backends[0].load.in_flight == 1
        assert ranking[0].parts[1].value == 0
        assert as_explanation(search.record).rounds[0].models[0].ranking == ranking

    def test_facts_are_kept_only_for_requests_that_ask_for_them(self, router, routing, fleet):
        plain, explained = routing(router()), routing(router(), headers={"x-nexus-explain": "1"})
        plain.next(fleet)
        explained.next(fleet)

        models = [as_explanation(search.record).rounds[0].models[0] for search in (plain, explained)]

        assert models[0].stages[-1].facts is None
        assert models[0].notes == ()
        assert models[1].stages[-1].facts["strategy"] == "smart"
        assert models[1].notes

    def test_what_each_stage_knows_of_the_candidates_is_told_in_words(self, router, stage):
        def no_cloud(intent):
            for backend in intent.candidates_in(zone="cloud"):
                intent.exclude(backend, stage="memory", reason="data stays here")

        memory = stage(no_cloud, name="memory", priority=200)
        memory.describe = lambda intent: {backend.name: f"{backend.name} has 24 GB" for backend in intent}
        fleet = make_fleet(make_backend("cloud", zone="open"), make_backend("gpu"))

        notes = explain(router(memory), request(), fleet).rounds[0].models[0].notes

        # A candidate that is excluded is described, too.
        assert [(note.backend, note.text) for note in notes if note.stage == "memory"] == [
            ("cloud", "cloud has 24 GB"),
            ("gpu", "gpu has 24 GB"),
        ]
        assert [note.backend for note in notes] == sorted(note.backend for note in notes)

    @pytest.mark.parametrize("sentences", ["text", {"gpu": 5}, {"gpu": "x" * 501}, {5: "text"}])
    def test_a_stage_that_gives_no_sentences_is_left_out(self, router, stage, sentences):
        rogue = stage(lambda _: None, name="rogue", priority=200)
        rogue.describe = lambda intent: sentences

        notes = explain(router(rogue), request(), make_fleet(make_backend("gpu"))).rounds[0].models[0].notes

        assert "rogue" not in {note.stage for note in notes}

    def test_a_fleet_of_a_hundred_backends_is_explained_whole(self, router):
        fleet = make_fleet(*(make_backend(f"gpu-{number}") for number in range(100)))

        schedule = explain(router(), request(), fleet).rounds[0].models[0].stages[-1]

        assert len(schedule.facts["backends"]) == 100

    def test_the_outcome_is_told_with_each_attempt(self, router, routing, fleet):
        search = routing(router())
        search.next(fleet)
        failed = AttemptOutcome(
            backend="gpu-1", backend_id="1", model="llama3", ending=Ending.BACKEND_FAILED, fault="refused"
        )
        search.record.outcome = outcome(attempts=(failed,), status=502, code="bad_gateway")

        told = as_explanation(search.record).outcome

        assert (told.status, told.code, told.duration_ms) == (502, "bad_gateway", 250.0)
        assert [(a.backend, a.fault) for a in told.attempts] == [("gpu-1", "refused")]

    def test_a_search_that_an_internal_error_ended_is_a_rejection(self, router, routing, fleet):
        search = routing(router())
        search.record.begin_round(fleet.backends)

        assert as_explanation(search.record).decision.code == "internal_error"
        assert decided(None) == "reject"


def test_it_survives_the_way_through_json(router, no_cloud):
    fleet = make_fleet(make_backend("gpu-1"), make_backend("openai", zone="cloud"))
    explanation = explain(router(no_cloud, fallbacks={"llama3": ("qwen3",)}), request(), fleet)

    assert msgspec.json.decode(msgspec.json.encode(explanation), type=Explanation) == explanation


def outcome(**facts):
    defaults = {
        "request_id": "r-1",
        "endpoint": "openai.chat",
        "protocol": "openai",
        "model": "llama3",
        "resolved_model": "llama3",
        "is_stream": False,
        "ending": Ending.FINISHED,
        "status": 200,
        "code": None,
        "phase": "relay",
        "termination": "--",
        "route_reason": None,
        "fallback_model": None,
        "translated": None,
        "attempts": (),
        "received_at": 0.0,
        "duration_s": 0.25,
        "queued_s": 0.0,
        "first_byte_s": None,
        "usage": None,
        "bytes_in": 0,
        "bytes_out": 0,
    }
    return ExchangeOutcome(**{**defaults, **facts})
