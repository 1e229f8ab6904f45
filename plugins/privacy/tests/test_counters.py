"""The metrics move, once for each request, and outlive reloads."""

from nexus.testing.builders import make_backend, make_fleet, make_intent
from nexus.testing.routing import begin, give_back, make_router
from nexus_privacy import counters, plugin
from nexus_privacy.config import PrivacyConfig, PrivacyKeys
from nexus_privacy.counters import RestrictionCounters
from nexus_privacy.reconciler import PrivacyReconciler

FLEET = {"gpu-1": "local", "openai": "cloud", "claude": "cloud"}


def figures(stage):
    """Return the samples that are not zero."""
    return {
        f"{measure.name}{{{sample.labels['by']}}}": sample.value
        for measure in stage.measures()
        for sample in measure.samples
        if sample.value
    }


def reconciled(stage, **said):
    intent = make_intent(backends=FLEET, **said)
    stage.reconcile(intent)
    stage.count(intent)
    return intent


def test_each_cause_of_a_restriction_is_counted():
    stage = PrivacyReconciler(PrivacyConfig(), RestrictionCounters())

    reconciled(stage)
    reconciled(stage, received_at="2026-05-01T12:01", policy={"privacy": PrivacyKeys(privacy="restricted")})
    reconciled(stage, received_at="2026-05-01T12:02", headers={"x-nexus-privacy": "restricted"})

    assert figures(stage) == {
        "nexus_privacy_requests_restricted{policy}": 1,
        "nexus_privacy_requests_restricted{header}": 1,
        "nexus_privacy_backends_excluded{policy}": 2,
        "nexus_privacy_backends_excluded{header}": 2,
    }


def test_a_label_that_has_not_occurred_is_zero():
    (requests, backends) = PrivacyReconciler(PrivacyConfig(), RestrictionCounters()).measures()

    for measure in (requests, backends):
        assert [(sample.value, sample.labels["by"]) for sample in measure.samples] == [
            (0, "policy"),
            (0, "default"),
            (0, "header"),
        ]


def test_a_request_that_waits_falls_back_and_is_tried_again_counts_once():
    stage = PrivacyReconciler(PrivacyConfig(default="restricted"), RestrictionCounters())
    router = make_router(stage, fallbacks={"llama3": ("qwen3",)})
    fleet = make_fleet(
        make_backend("gpu-1", models=["llama3", "qwen3"], max_in_flight=1),
        make_backend("openai", zone="cloud", models=["llama3", "qwen3"]),
    )
    other = begin(router, requirements=None)
    held = other.next(fleet)
    stage.measures()

    search = begin(router)
    for _ in range(5):
        search.next(fleet)
    give_back(held)
    for _ in range(3):
        search.next(fleet)

    assert figures(stage) == {
        "nexus_privacy_requests_restricted{default}": 1,
        "nexus_privacy_backends_excluded{default}": 1,
    }


def test_what_is_remembered_of_requests_is_bounded(monkeypatch):
    monkeypatch.setattr(counters, "MAX_REMEMBERED", 2)
    counted = RestrictionCounters()

    for minute in range(5):
        counted.note(make_intent(received_at=f"2026-05-01T12:0{minute}"), "policy")

    assert len(counted._counted) == 2


def test_they_go_on_after_a_reload():
    state = {}
    (before,) = plugin.nexus_reconcilers(PrivacyConfig(default="restricted"), state)
    reconciled(before)

    (after,) = plugin.nexus_reconcilers(PrivacyConfig(), state)

    assert figures(after) == figures(before) != {}
