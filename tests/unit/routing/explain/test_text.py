"""An explained decision as an operator reads it in a terminal."""

import re

from nexus.domain.backend import Status
from nexus.domain.outcome import Ending
from nexus.domain.request import Requirements
from nexus.routing.decision_record import Request
from nexus.routing.explain.build import as_explanation
from nexus.routing.explain.text import as_text
from nexus.routing.policies import Policy
from nexus.testing.builders import CHAT, make_backend, make_fleet
from tests.support.dry_runs import explain

IDLE = (
    "0 requests in flight, at most 64, how many it works on at once is not known;"
    " no report, only requests of Nexus count (servers of this kind do not report their load)"
)


def text_of(router, *backends, headers=None, **requirements):
    asked = Request("r-1", CHAT, Requirements(model="llama3", **requirements), headers or {}, 1_777_777_777.0)
    text = as_text(explain(router, asked, make_fleet(*backends)))
    return re.sub(r"\([\d.e-]+ us", "(N us", text)


def without_facts(text):
    return [line for line in text.splitlines() if not re.match(r" {9}\w+: ", line)]


def test_it_reads_from_the_request_to_the_decision_and_why_not_the_others(router, stage):
    def no_cloud(intent):
        for backend in intent.candidates_in(zone="cloud"):
            intent.exclude(backend, stage="privacy", reason="data stays here", action="ask here")

    subject = router(stage(no_cloud, name="privacy", priority=200), policies=[Policy(0, "llama*", False, {})])
    cloud = make_backend("openai", zone="cloud")

    text = text_of(subject, make_backend("gpu-1", priority=0), make_backend("gpu-2"), cloud, needs_tools=True)

    assert without_facts(text) == [
        "model llama3 at openai.chat (POST /v1/chat/completions)",
        "request: about 0 tokens, needs tools",
        "policy 0: llama*  no fallback",
        "",
        "llama3",
        "  candidates: gpu-1, gpu-2, openai",
        "    gpu-1   " + IDLE,
        "    gpu-2   " + IDLE,
        "    openai  " + IDLE,
        "     0 analyze (N us)  no objection",
        "   200 privacy (N us)",
        "         excludes openai: data stays here (ask here)",
        "  1000 schedule (N us)  no objection",
        "  1. gpu-1 as llama3  score 100.00 = priority 50 + load 30 + latency 20",
        "  2. gpu-2 as llama3  score 75.00 = priority 25 + load 30 + latency 20",
        "route: gpu-1 as llama3 (privacy-requirement, highest_score:gpu-1:100.00)",
        "",
        "why not gpu-2         it ranks 2 of 2: score 75.00 against 100.00 of gpu-1, by its priority",
        "why not openai        stage 'privacy' excluded it: data stays here",
    ]


def test_a_stage_that_failed_did_not_agree(router, stage):
    def fail(_):
        raise ValueError("broken")

    text = text_of(router(stage(fail, name="broken", priority=200, on_error="skip")), make_backend("gpu-1"))

    assert re.search(r"^ +200 broken \(.*\)  failed and was skipped, see the log$", text, re.MULTILINE)


def test_shares_are_told_where_they_differ(router):
    text = text_of(router(), make_backend("gpu-1", priority=0, share=2.5), make_backend("gpu-2"))

    assert "  2. gpu-2 as llama3  score 75.00 = priority 25 + load 30 + latency 20  share 1" in text
    assert "latency 20  share 2.5" in text
    assert "share" not in text_of(router(), make_backend("gpu-1"), make_backend("gpu-2"))


def test_a_factor_multiplies_the_whole_score(router, stage):
    def prefer_others(intent):
        for backend in intent:
            intent.weigh(backend, 1 / 3, stage="others", reason="it is not ours")

    text = text_of(router(stage(prefer_others, name="others")), make_backend("gpu-1"))

    assert "score 25.00 = (priority 25 + load 30 + latency 20) * 0.333 (others)" in text
    assert "weighs gpu-1 by 0.333: it is not ours" in text


def test_a_rejection_says_what_would_help(router):
    text = text_of(router(), make_backend("gpu-1", status=Status.DRAINING))

    assert "reject: 503 no_healthy_backend: No healthy backend available for model 'llama3'" in text
    assert "  what would help: Wait for it to be put back into service, or use another model" in text


def test_waiting_names_the_backends_at_their_limit(router):
    text = text_of(router(), make_backend("gpu-1", max_in_flight=0))

    assert "queue: waits for gpu-1" in text
    assert "  cannot take it now" in text


def test_hints_and_fallbacks_are_told(router):
    text = text_of(
        router(fallbacks={"llama3": ("phi",)}), make_backend(models=["phi"]), headers={"x-nexus-strict": "true"}
    )

    assert "hint: x-nexus-strict: true" in text
    assert "fallback phi\n" in text
    assert "llama3\n  candidates: none" in text


def test_what_a_stage_would_have_done_is_marked(router, stage):
    def no_cloud(intent):
        for backend in intent:
            intent.exclude(backend, stage="privacy", reason="data stays here")

    text = text_of(router(stage(no_cloud, name="privacy"), observe=["privacy"]), make_backend("openai"))

    assert "privacy (N us, observes only)\n         would have excluded openai: data stays here\n" in text


def test_a_stage_that_ended_it_all_is_marked(router, stage):
    text = text_of(router(stage(lambda _: 1 / 0, name="tier")), make_backend())

    assert "tier (did not come to its end)" in text


def test_a_request_that_was_carried_out_has_rounds_and_an_outcome(router, routing, settle):
    fleet = make_fleet(make_backend("gpu-1", priority=0), make_backend("gpu-2"))
    search = routing(router())
    settle(search.next(fleet), Ending.BACKEND_FAILED)
    settle(search.next(fleet))

    text = as_text(as_explanation(search.record))

    assert "\nround 1\n" in text
    assert "\nround 2\n" in text
    assert "why not gpu-1         it was tried before, and failed" in text
