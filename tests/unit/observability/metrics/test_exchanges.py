"""Every exchange is counted once, under names that clients cannot choose."""

import pytest

from nexus.domain.outcome import Ending
from nexus.domain.request import TokenUsage
from nexus.observability.metrics import exchanges as counting
from nexus.observability.metrics.exchanges import ExchangeMetrics
from nexus.observability.metrics.histogram import Histogram
from nexus.testing.builders import MODEL, make_attempt, make_backend, make_fleet, make_outcome

FLEET = make_fleet(make_backend("gpu-1"), make_backend("gpu-2"))


@pytest.fixture
def metrics():
    return ExchangeMetrics(lambda: FLEET, embedding_endpoints=frozenset({"openai.embeddings"}))


def values(metrics, name):
    """What one family says: by the values of its labels, a number or how many were counted."""
    (family,) = [family for family in metrics.families() if family.name == name]
    return {values: sum(it.counts) if isinstance(it, Histogram) else it for values, it in family.rows}


def stream(first_s=0.1, last_s=1.1, **fields):
    usage = fields.pop("usage", TokenUsage(7, 11))
    facts = {"is_stream": True, "first_byte_s": first_s, "last_content_s": last_s, "usage": usage, **fields}
    return make_attempt(duration_s=2.0, **facts)


def test_a_request_is_counted_under_the_backend_that_answered(metrics):
    metrics.observe(make_outcome(make_attempt("gpu-1")))
    metrics.observe(make_outcome(make_attempt("gpu-1")))
    metrics.observe(make_outcome(make_attempt("gpu-2", status=404)))

    assert values(metrics, "nexus_requests") == {
        (MODEL, "gpu-1", "200", "finished"): 2,
        (MODEL, "gpu-2", "404", "failed"): 1,
    }
    assert values(metrics, "nexus_request_duration_seconds") == {(MODEL,): 3}
    assert values(metrics, "nexus_backend_request_duration_seconds") == {("gpu-1",): 2, ("gpu-2",): 1}
    assert values(metrics, "nexus_request_bytes") == {(MODEL, "gpu-1"): 1600, (MODEL, "gpu-2"): 800}
    assert values(metrics, "nexus_response_bytes") == {(MODEL, "gpu-1"): 4000, (MODEL, "gpu-2"): 2000}


def test_times_are_by_model_and_backend_if_that_is_configured(metrics):
    metrics.observe(make_outcome(stream()))
    metrics.count_pairs(times=True)
    metrics.observe(make_outcome(stream()))
    metrics.observe(make_outcome(make_attempt("gpu-2")))

    assert values(metrics, "nexus_request_duration_seconds") == {(MODEL, "gpu-1"): 1, (MODEL, "gpu-2"): 1}
    assert values(metrics, "nexus_time_to_first_token_seconds") == {(MODEL, "gpu-1"): 1}
    assert values(metrics, "nexus_time_between_tokens_seconds") == {(MODEL, "gpu-1"): 1}
    assert values(metrics, "nexus_backend_request_duration_seconds") == {("gpu-1",): 2, ("gpu-2",): 1}


def test_times_by_model_have_counted_on_when_those_by_pair_are_switched_off(metrics):
    metrics.count_pairs(times=True)
    metrics.observe(make_outcome(make_attempt()))
    metrics.count_pairs(times=False)
    metrics.observe(make_outcome(make_attempt()))

    assert values(metrics, "nexus_request_duration_seconds") == {(MODEL,): 2}


def test_a_request_without_a_backend_is_counted_under_its_model(metrics):
    metrics.observe(make_outcome())

    assert values(metrics, "nexus_requests") == {(MODEL, "none", "503", "rejected"): 1}
    assert values(metrics, "nexus_errors") == {("no_healthy_backend", MODEL): 1}
    assert values(metrics, "nexus_attempts") == {}
    assert values(metrics, "nexus_request_duration_seconds") == {(MODEL,): 1}
    assert values(metrics, "nexus_backend_request_duration_seconds") == {}


@pytest.mark.parametrize("model", [None, "", "invented", "\udcff", 'x"y'])
def test_an_unknown_model_is_other(metrics, model):
    metrics.observe(make_outcome(model=model, status=404, code="model_not_found"))

    assert values(metrics, "nexus_errors") == {("model_not_found", "other"): 1}


def test_a_configured_name_has_its_own_series(metrics):
    metrics.configured_models = frozenset({"gpt-4o"})

    metrics.observe(make_outcome(model="gpt-4o"))

    assert values(metrics, "nexus_requests") == {("gpt-4o", "none", "503", "rejected"): 1}


def test_ten_thousand_invented_names_add_no_series(metrics):
    metrics.observe(make_outcome(model="invented"))
    before = sum(len([*family.rows]) for family in metrics.families())

    for number in range(10_000):
        metrics.observe(make_outcome(model=f"invented-{number}"))

    assert sum(len([*family.rows]) for family in metrics.families()) == before
    assert values(metrics, "nexus_requests") == {("other", "none", "503", "rejected"): 10_001}


def test_models_beyond_the_limit_are_other(metrics, monkeypatch):
    monkeypatch.setattr(counting, "MAX_MODELS", 3)

    for number in range(10):
        metrics.observe(make_outcome(make_attempt(model=f"pulled-{number}")))

    assert set(values(metrics, "nexus_requests")) == {
        (name, "gpu-1", "200", "finished") for name in ("pulled-0", "pulled-1", "other")
    }


def test_a_backend_that_left_is_forgotten_only_when_room_is_needed(metrics, monkeypatch):
    monkeypatch.setattr(counting, "MAX_BACKENDS", 3)
    metrics.observe(make_outcome())
    for name in ("gone-1", "gpu-1", "gone-2"):
        metrics.observe(make_outcome(make_attempt(name)))

    assert set(metrics.backends) == {"none", "gpu-1", "gone-2"}
    assert metrics.all.requests == 4


def test_the_first_content_counts_for_streams_only(metrics):
    metrics.observe(make_outcome(make_attempt(first_byte_s=0.4)))
    metrics.observe(make_outcome(stream(first_s=0.2)))
    metrics.observe(make_outcome(stream(first_s=None, last_s=None)))

    assert values(metrics, "nexus_time_to_first_token_seconds") == {(MODEL,): 1}
    assert values(metrics, "nexus_backend_time_to_first_token_seconds") == {("gpu-1",): 1}


def test_the_pace_of_a_stream_is_measured_in_reported_tokens(metrics):
    metrics.observe(make_outcome(stream(usage=TokenUsage(7, 11), content_blocks=3)))

    (family,) = [f for f in metrics.families() if f.name == "nexus_time_between_tokens_seconds"]
    ((_, gaps),) = family.rows
    assert gaps.sum == pytest.approx(0.1)
    assert values(metrics, "nexus_backend_time_between_tokens_seconds") == {("gpu-1",): 1}
    assert values(metrics, "nexus_tokens_per_second") == {("gpu-1",): 1}


def test_without_reported_tokens_the_pace_is_measured_in_content_blocks(metrics):
    metrics.observe(make_outcome(stream(usage=None, content_blocks=5)))

    (family,) = [f for f in metrics.families() if f.name == "nexus_time_between_tokens_seconds"]
    ((_, gaps),) = family.rows
    assert gaps.sum == pytest.approx(0.25)
    assert values(metrics, "nexus_tokens_per_second") == {}


@pytest.mark.parametrize(
    "attempt",
    [
        stream(usage=TokenUsage(7, 1)),
        stream(usage=TokenUsage(7, 0)),
        stream(usage=None, content_blocks=1),
        stream(first_s=1.1),
        stream(first_s=None),
        stream(last_s=None),
        make_attempt(usage=TokenUsage(7, 11)),
    ],
)
def test_an_attempt_without_a_pace_is_not_measured(metrics, attempt):
    metrics.observe(make_outcome(attempt))

    assert values(metrics, "nexus_time_between_tokens_seconds") == {}


def test_reported_and_estimated_tokens_are_counted_separately(metrics):
    metrics.observe(make_outcome(make_attempt(usage=TokenUsage(7, 11))))
    metrics.observe(make_outcome(make_attempt(usage=TokenUsage(5, 0))))
    metrics.observe(make_outcome(make_attempt("gpu-2", usage=None)))
    metrics.observe(make_outcome(make_attempt("gpu-2", usage=None), usage=TokenUsage(3, 4, is_estimated=True)))

    assert values(metrics, "nexus_tokens") == {
        (MODEL, "gpu-1", "prompt", "reported"): 12,
        (MODEL, "gpu-1", "completion", "reported"): 11,
        (MODEL, "gpu-2", "prompt", "estimated"): 3,
        (MODEL, "gpu-2", "completion", "estimated"): 4,
    }
    assert values(metrics, "nexus_request_tokens") == {(MODEL, "prompt"): 2, (MODEL, "completion"): 2}


def test_embeddings_are_counted_separately_too(metrics):
    metrics.observe(make_outcome(make_attempt(usage=TokenUsage(9)), endpoint="openai.embeddings"))
    metrics.observe(make_outcome(endpoint="openai.embeddings"))

    assert values(metrics, "nexus_embeddings_requests") == {(MODEL,): 2}
    assert values(metrics, "nexus_embeddings_tokens") == {(MODEL,): 9}
    assert values(metrics, "nexus_endpoint_requests") == {("openai.embeddings", "false"): 2}


def test_a_failover_counts_the_failed_backend_and_its_fault(metrics):
    busy = make_attempt("gpu-1", ending=Ending.BACKEND_FAILED, fault="status", status=503)
    gone = make_attempt("gpu-2", ending=Ending.BACKEND_FAILED, fault="refused", status=None)

    metrics.observe(make_outcome(busy, gone, make_attempt("gpu-1")))

    assert values(metrics, "nexus_attempts") == {("gpu-1",): 2, ("gpu-2",): 1}
    assert values(metrics, "nexus_attempt_failures") == {("gpu-1", "status_503"): 1, ("gpu-2", "refused"): 1}
    assert values(metrics, "nexus_retries") == {("status_503",): 1, ("refused",): 1}
    assert values(metrics, "nexus_failovers") == {("status_503",): 1}
    assert values(metrics, "nexus_requests") == {(MODEL, "gpu-1", "200", "finished"): 1}


def test_a_request_that_failed_everywhere_is_no_failover(metrics):
    failed = make_attempt("gpu-1", ending=Ending.BACKEND_FAILED, fault="refused", status=None)

    metrics.observe(make_outcome(failed, failed, code="no_healthy_backend"))

    assert values(metrics, "nexus_retries") == {("refused",): 1}
    assert values(metrics, "nexus_failovers") == {}


def test_a_client_that_left_is_counted_by_phase(metrics):
    left = make_attempt(ending=Ending.CLIENT_LEFT)

    metrics.observe(make_outcome(left))
    metrics.observe(make_outcome(ending=Ending.CLIENT_LEFT, status=499, code=None, phase="queue"))

    assert values(metrics, "nexus_client_disconnects") == {("relay",): 1, ("queue",): 1}


def test_a_fallback_is_counted_from_the_requested_model(metrics):
    metrics.observe(make_outcome(make_attempt(model="small"), model=MODEL, fallback_model="small"))

    assert values(metrics, "nexus_fallbacks") == {(MODEL, "small"): 1}


def test_a_request_that_was_not_accepted_is_in_no_other_metric(metrics):
    metrics.refused("invalid_api_key")

    assert values(metrics, "nexus_rejected") == {("invalid_api_key",): 1}
    assert metrics.all.requests == 0


def test_every_request_ends_in_one_way(metrics):
    metrics.observe(make_outcome(make_attempt()))
    metrics.observe(make_outcome(make_attempt(status=404)))
    metrics.observe(make_outcome())
    metrics.observe(make_outcome(make_attempt(ending=Ending.BACKEND_FAILED), code="stream_truncated"))

    tally = metrics.all
    assert tally.results == {"finished": 1, "failed": 1, "rejected": 1, "truncated": 1}
    assert (tally.requests, tally.successes, tally.client_errors, tally.server_errors, tally.unfinished) == (
        *(4, 1),
        *(1, 1, 1),
    )


def test_the_last_request_of_each_bucket_is_its_exemplar(metrics):
    for request_id, duration_s in (("a", 0.05), ("b", 0.06), ("c", 7.0)):
        metrics.observe(make_outcome(make_attempt(duration_s=duration_s), request_id=request_id))

    (family,) = [f for f in metrics.families() if f.name == "nexus_request_duration_seconds"]
    ((_, durations),) = family.rows
    assert [exemplar[:2] for exemplar in durations.exemplars if exemplar] == [("b", 0.06), ("c", 7.0)]
