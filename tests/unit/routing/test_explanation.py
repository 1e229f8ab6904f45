"""A dry request, explained."""

import msgspec
import pytest

from nexus.domain.backend import Status
from nexus.domain.request import Requirements
from nexus.routing.explanation import as_text, explain
from nexus.routing.policies import Policy
from nexus.routing.router import Request
from nexus.testing.builders import CHAT, make_backend, make_fleet


@pytest.fixture
def no_cloud(stage):
    def exclude(intent):
        for backend in intent.candidates_in(zone="cloud"):
            intent.exclude(backend, stage="privacy", reason="data stays here")

    return stage(exclude, name="privacy", priority=200)


def request(model="llama3"):
    return Request("r-1", CHAT, Requirements(model=model), {}, 1_777_777_777.0)


def test_it_tells_each_stage_s_verdicts_and_the_ranking(router, no_cloud):
    fleet = make_fleet(make_backend("gpu-1", priority=0), make_backend("gpu-2"), make_backend("openai", zone="cloud"))
    subject = router(no_cloud, policies=[Policy(0, "llama*", True, {})])

    text = as_text(explain(subject, request(), fleet))

    assert text.splitlines() == [
        "model llama3 at openai.chat",
        "policy: llama*",
        "",
        "llama3",
        "  who has it: gpu-1, gpu-2, openai",
        "     0 analyze  no objection",
        "   200 privacy",
        "         excludes openai: data stays here",
        "  1000 schedule  no objection",
        "  1. gpu-1 as llama3  score 100.00  highest_score:gpu-1:100.00",
        "  2. gpu-2 as llama3  score 75.00",
    ]


def test_it_takes_no_slot(router):
    fleet = make_fleet(make_backend())

    explanation = explain(router(), request(), fleet)

    assert explanation.backend == "gpu-1"
    assert fleet.backends[0].load.in_flight == 0


def test_it_follows_the_chain(router):
    fleet = make_fleet(make_backend("sick", status=Status.UNHEALTHY), make_backend("gpu-2", models=["qwen3"]))

    explanation = explain(router(fallbacks={"llama3": ("phi", "qwen3")}), request(), fleet)

    assert [(model.requested, model.code) for model in explanation.models] == [
        ("llama3", "no_healthy_backend"),
        ("phi", "model_not_found"),
        ("qwen3", None),
    ]
    assert "fallback qwen3" in as_text(explanation)
    assert explanation.backend == "gpu-2"


def test_it_shows_what_a_stage_would_have_done(router, no_cloud):
    fleet = make_fleet(make_backend("openai", zone="cloud"))

    text = as_text(explain(router(no_cloud, observe=["privacy"]), request(), fleet))

    assert "privacy (observes only)\n         would have spoken against openai: data stays here" in text


def test_it_shows_a_failing_stage(router, stage):
    text = as_text(explain(router(stage(lambda _: 1 / 0, name="tier")), request(), make_fleet(make_backend())))

    assert "rejected: policy_unavailable" in text


def test_it_is_json(router):
    explanation = explain(router(), request("gpt-9"), make_fleet(make_backend()))

    decoded = msgspec.json.decode(msgspec.json.encode(explanation))

    assert decoded["models"][0]["code"] == "model_not_found"
    assert explanation.backend is None
