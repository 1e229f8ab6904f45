"""The hooks share one measurements, which outlives reloads; the table is checked."""

import msgspec
import pytest

import nexus_quality
from nexus.testing.builders import make_backend, make_intent
from nexus.testing.imports import assert_only_uses_api
from nexus_quality import plugin
from nexus_quality.config import QualityConfig


@pytest.fixture
def state():
    return {}


def reconciled(config, state):
    """Return what a stage that was made just now says of a request."""
    (stage,) = plugin.nexus_reconcilers(config, state)
    intent = make_intent(backends=[make_backend("gpu-1"), make_backend("gpu-2")])
    stage.reconcile(intent)
    return {verdict.backend for verdict in intent.avoided}


def test_it_imports_nothing_of_nexus_but_the_api():
    assert_only_uses_api(nexus_quality)


def test_what_one_hook_learns_the_others_know_after_a_reload_too(state, make_attempt, make_outcome):
    config, reloaded = QualityConfig(), QualityConfig(min_samples=5)
    reconciled(config, state)
    (observe,) = plugin.nexus_observers(config, state)
    for _ in range(9):
        observe(make_outcome(make_attempt(status=503)))

    (route,) = plugin.nexus_routes(reloaded, state)
    _, _, body = route.respond({})

    assert (reconciled(config, state), reconciled(reloaded, state)) == (set(), {"gpu-1"})
    assert (route.path, msgspec.json.decode(body)["models"][0]["request_count_1h"]) == ("/", 9)


def test_an_exchange_may_end_before_there_is_a_stage(state, make_attempt, make_outcome):
    (observe,) = plugin.nexus_observers(QualityConfig(), state)
    observe(make_outcome(make_attempt()))

    assert state["measurements"].recent() == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("error_rate_threshold", 0),
        ("error_rate_threshold", 1.01),
        ("error_rate_threshold", "half"),
        ("error_rate_threshold", float("nan")),
        ("min_samples", 0),
        ("min_samples", 2.5),
        ("ttft_penalty_threshold_ms", 0),
        ("trial_interval_seconds", 0),
        ("trial_interval_seconds", float("inf")),
        ("trial_successes", 0),
    ],
)
def test_an_invalid_value_is_refused(key, value):
    with pytest.raises(msgspec.ValidationError, match=rf"\$\.{key}"):
        msgspec.convert({key: value}, plugin.nexus_config())


def test_the_stage_is_left_out_when_it_fails(state):
    (stage,) = plugin.nexus_reconcilers(QualityConfig(), state)

    assert (stage.name, stage.priority, stage.on_error) == ("quality", 500, "skip")
