"""What a client is told when no backend answers: the error, its headers, and the stage that is the reason."""

import msgspec
import pytest

from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.error_codes import REPLY_CODES, UpstreamFault
from nexus.errors import RequestError, UpstreamError
from nexus.proxy.exchange.rejection import (
    MAX_DETAIL_BYTES,
    add_reasons,
    as_verdict,
    error_of,
    reason_headers,
    rejecting_stage,
    rejection,
)
from nexus.routing.decision import Reject
from nexus.routing.intent import Verdict
from nexus.testing.builders import make_backend


def verdict(number, reason="too far"):
    return Verdict(backend=f"gpu-{number}", stage="privacy", reason=reason, action="move it")


def test_a_rejection_says_why_and_what_to_do():
    reject = Reject(
        "rejected_by_policy", "nobody may", (verdict(1), verdict(2, "caf\xe9\r\n")), context={"a": 1}, retry_after_s=7
    )

    error = rejection(reject)
    details = msgspec.json.decode(error.headers["X-Nexus-Rejection-Details"])

    assert (error.code, error.context, error.retry_after_s, error.param) == ("rejected_by_policy", {"a": 1}, 7, None)
    assert error.headers["X-Nexus-Rejection-Reasons"] == "2 agents rejected by privacy"
    assert details[0] == {
        "agent_id": "gpu-1",
        "reconciler": "privacy",
        "reason": "too far",
        "suggested_action": "move it",
    }
    assert all(" " <= c <= "~" for value in error.headers.values() for c in value)


def test_a_rejection_does_not_list_a_whole_fleet():
    error = rejection(Reject("rejected_by_policy", "nobody may", tuple(verdict(n) for n in range(500))))

    assert len(msgspec.json.decode(error.headers["X-Nexus-Rejection-Details"])) == 10
    assert error.headers["X-Nexus-Rejection-Reasons"].startswith("500 agents")


def test_the_headers_of_a_rejection_stay_small_and_whole():
    reasons = tuple(verdict(n, reason="\U0001f600" * 5000) for n in range(50))

    headers = reason_headers((*reasons, Verdict("gpu-1", "x" * 5000, "no")))
    details = msgspec.json.decode(headers["X-Nexus-Rejection-Details"])

    assert len(headers["X-Nexus-Rejection-Details"]) <= MAX_DETAIL_BYTES
    assert len(headers["X-Nexus-Rejection-Reasons"]) < 300
    assert all(" " <= c <= "~" for value in headers.values() for c in value)
    assert details[0]["reason"].startswith("\U0001f600")


def test_the_details_of_a_rejection_keep_what_is_not_ascii():
    headers = reason_headers((verdict(1, "caf\xe9\r\nX-Evil: 1"),))

    assert "\r" not in headers["X-Nexus-Rejection-Details"]
    assert msgspec.json.decode(headers["X-Nexus-Rejection-Details"])[0]["reason"] == "caf\xe9\r\nX-Evil: 1"


def test_reasons_are_given_only_to_an_error_that_has_none():
    bare, full = (
        RequestError("queue_full", "for the test"),
        RequestError("queue_full", "for the test", context={"a": 1}),
    )

    for error in (bare, full):
        add_reasons(error, (verdict(1),), [make_backend("gpu-1"), make_backend("gpu-2")])

    assert bare.context["available_backends"] == ["gpu-1", "gpu-2"]
    assert bare.context["suggested_actions"] == ["move it"]
    assert bare.headers["X-Nexus-Rejection-Reasons"] == "1 agents rejected by privacy"
    assert (full.context, full.headers) == ({"a": 1}, None)


@pytest.mark.parametrize(
    ("status", "fault", "told"),
    [
        (503, "status", "It was asked and failed with status 503: status"),
        (None, "refused", "It was asked and failed: refused"),
    ],
)
def test_a_failed_attempt_is_a_reason_too(status, fault, told):
    failed = AttemptOutcome(
        backend="gpu-1", backend_id="1", model="m", ending=Ending.BACKEND_FAILED, status=status, fault=fault
    )

    reason = as_verdict(failed)

    assert (reason.backend, reason.stage, reason.reason) == ("gpu-1", "attempt", told)


@pytest.mark.parametrize(("code", "param"), [("model_not_found", "model"), ("no_healthy_backend", None)])
def test_a_rejection_without_reasons_names_the_field_at_fault(code, param):
    error = rejection(Reject(code, "nobody has it"))

    assert (error.param, error.headers) == (param, {})


@pytest.mark.parametrize(
    ("code", "stage", "phase", "by"),
    [
        ("rejected_by_policy", "budget", "route", "budget"),
        ("rejected_by_policy", "budget", "queue", "budget"),
        ("queue_full", None, "queue", "queue"),
        ("queue_timeout", None, "queue", "queue"),
        ("overloaded", None, "route", "queue"),
        ("overloaded", None, "receive", None),
        ("model_not_found", None, "route", None),
        ("bad_gateway", "schedule", "send", None),
    ],
)
def test_a_refusal_names_the_stage_that_is_the_reason(code, stage, phase, by):
    assert rejecting_stage(RequestError(code, "no", stage=stage), phase) == by


def test_of_several_stages_the_one_with_the_code_of_the_rejection_counts():
    reasons = (
        Verdict("gpu-1", "schedule", "it is unhealthy", code="no_healthy_backend"),
        Verdict("cloud", "budget", "the monthly limit is spent"),
        Verdict("gpu-2", "attempt", "it failed"),
    )

    error = rejection(Reject("rejected_by_policy", "no", reasons))

    assert (error.stage, error.reason) == ("budget", "the monthly limit is spent")


@pytest.mark.parametrize("fault", UpstreamFault)
def test_any_fault_becomes_an_error_that_clients_know(fault):
    assert error_of(UpstreamError(fault, "for the test")).code in REPLY_CODES


@pytest.mark.parametrize(
    ("fault", "status", "asked_s", "code", "told_s"),
    [
        (UpstreamFault.REFUSED, None, None, "no_healthy_backend", 5),
        (UpstreamFault.CONNECT_TIMEOUT, None, None, "connect_timeout", 5),
        (UpstreamFault.TLS, None, None, "backend_tls", None),
        (UpstreamFault.FIRST_BYTE_TIMEOUT, None, None, "ttft_timeout", None),
        (UpstreamFault.PROTOCOL, 302, None, "bad_gateway", None),
        (UpstreamFault.STATUS, 401, None, "backend_auth", None),
        (UpstreamFault.STATUS, 403, None, "backend_auth", None),
        (UpstreamFault.STATUS, 429, None, "upstream_rate_limited", 5),
        (UpstreamFault.STATUS, 429, 7.2, "upstream_rate_limited", 8),
        (UpstreamFault.STATUS, 429, 0.0, "upstream_rate_limited", 1),
        (UpstreamFault.STATUS, 503, 7.0, "backend_unavailable", 7),
        (UpstreamFault.STATUS, 500, None, "bad_gateway", None),
        (UpstreamFault.IN_STREAM_ERROR, 529, None, "backend_unavailable", 5),
    ],
)
def test_a_client_is_told_what_failed_and_when_to_come_back(fault, status, asked_s, code, told_s):
    error = error_of(UpstreamError(fault, "for the test", status=status), retry_after_s=asked_s)

    assert (error.code, error.retry_after_s) == (code, told_s)
