"""The metrics move, once for each request, and outlive reloads."""

from nexus.testing.builders import make_backend, make_fleet, make_intent
from nexus.testing.routing import begin, give_back, make_router
from nexus_tier import counters, plugin
from nexus_tier.config import TierConfig
from nexus_tier.counters import TierCounters
from nexus_tier.reconciler import TierReconciler

FLEET = tuple(make_backend(f"tier-{tier}", tier=tier, models=["llama3", "qwen3"]) for tier in (1, 2, 3))
FLEXIBLE = {"x-nexus-flexible": "true"}


def figures(stage):
    """Return the samples that are not zero."""
    return {
        measure.name + "".join(f"{{{mode}}}" for mode in sample.labels.values()): sample.value
        for measure in stage.measures()
        for sample in measure.samples
        if sample.value
    }


def judge(stage, **said):
    intent = make_intent(backends=FLEET, **said)
    stage.reconcile(intent)
    stage.count(intent)


def test_requests_and_objections_are_counted():
    stage = TierReconciler(TierConfig(min_tier=3, allow_downgrade=True), TierCounters())

    judge(stage)
    judge(stage, received_at="2026-05-01T12:01", headers=FLEXIBLE)

    assert figures(stage) == {
        "nexus_tier_requests{strict}": 1,
        "nexus_tier_requests{flexible}": 1,
        "nexus_tier_backends_excluded": 2,
        "nexus_tier_backends_avoided": 2,
    }


def test_a_request_that_any_tier_will_do_for_is_not_counted():
    stage = TierReconciler(TierConfig(), TierCounters())

    judge(stage)

    assert figures(stage) == {}


def test_a_request_that_waits_falls_back_and_is_tried_again_counts_once():
    stage = TierReconciler(TierConfig(min_tier=2), TierCounters())
    router = make_router(stage, fallbacks={"llama3": ("qwen3",)})
    search = begin(router)

    found = [search.next(make_fleet(*FLEET)) for _ in range(6)]
    give_back(found[0])

    assert figures(stage) == {"nexus_tier_requests{strict}": 1, "nexus_tier_backends_excluded": 1}


def test_what_is_remembered_of_requests_is_bounded(monkeypatch):
    monkeypatch.setattr(counters, "MAX_REMEMBERED", 2)
    counted = TierCounters()

    for minute in range(5):
        counted.note(make_intent(received_at=f"2026-05-01T12:0{minute}"), "strict")

    assert len(counted._counted) == 2


def test_they_go_on_after_a_reload():
    state = {}
    (before,) = plugin.nexus_reconcilers(TierConfig(min_tier=2), state)
    judge(before)

    (after,) = plugin.nexus_reconcilers(TierConfig(), state)

    assert figures(after) == figures(before) != {}
