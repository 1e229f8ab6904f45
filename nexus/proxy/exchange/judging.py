"""Judges what a backend has answered: it is passed on, another backend is asked, or the client is told an error."""

from time import monotonic
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from nexus.domain.statuses import FIRST_ERROR, StatusMeaning, meaning_of
from nexus.error_codes import UpstreamFault
from nexus.errors import RequestError, UpstreamError
from nexus.proxy.exchange import resources
from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.exchange.rejection import as_verdict, error_of, rejection
from nexus.proxy.exchange.response import Response
from nexus.proxy.upstream.response_parser import NOT_MODIFIED
from nexus.routing.decision import Reject
from nexus.routing.intent import Verdict
from nexus.routing.rejections import EXHAUSTED, after_attempts
from nexus.wire.errors.context import context_exceeded
from nexus.wire.errors.missing_model import MAX_ERROR_BYTES, names_missing_model
from nexus.wire.errors.unknown_path import names_unknown_path

if TYPE_CHECKING:
    from nexus.proxy.exchange.failover import Failover

SERVICE_UNAVAILABLE: Final = 503
TOKENIZE: Final = "openai.tokenize"
"""Where the tokens of a request are counted that its own endpoint cannot count."""


def refuse_bad(failover: "Failover", attempt: Attempt, response: Response) -> None:
    """Raise UpstreamError when a whole *response* is incomplete, or another backend may do better."""
    request, status = failover.request, response.status
    if status == NOT_MODIFIED and request.method != b"GET":
        raise UpstreamError(UpstreamFault.PROTOCOL, "answered with status 304", status=NOT_MODIFIED)
    if status >= FIRST_ERROR:
        _judge_status(failover, attempt, response)
    elif not response.is_framed and not response.looks_complete():
        raise UpstreamError(UpstreamFault.TRUNCATED, "the answer's document ends too early")


def _judge_status(failover: "Failover", attempt: Attempt, response: Response) -> None:
    """Raise UpstreamError when another backend may answer what this one refused or failed at."""
    status, fleet = response.status, failover.plane.fleet
    meaning = meaning_of(status)
    if meaning is StatusMeaning.NOT_SUPPORTED:
        _note_unserved(failover, attempt, response)
    if attempt.translation is not None and attempt.translation.endpoint.name == TOKENIZE:
        raise UpstreamError(UpstreamFault.STATUS, "it counts no tokens", status=status, is_refusal=True)
    if meaning.fails_over:
        is_own_key = meaning is StatusMeaning.CREDENTIALS and not _takes_clients_key(failover, attempt)
        fault = UpstreamFault.CREDENTIALS if is_own_key else UpstreamFault.STATUS
        # A server that says when to come back has not begun: RFC 9110, section 15.6.4.
        is_refusal = status == SERVICE_UNAVAILABLE and response.head.has(b"retry-after")
        raise UpstreamError(fault, f"it answered {status}", status=status, is_refusal=is_refusal)
    if _is_search(failover):
        resources.refuse_if_elsewhere(failover.requirements, response)
    if names_unknown_path(status, response.body) and _has_translations(failover):
        _note_unserved(failover, attempt, response)
        raise UpstreamError(UpstreamFault.STATUS, f"it answered {status}", status=status, is_refusal=True)
    if names_missing_model(status, response.body):
        fleet.report_missing_model(attempt.backend.id, attempt.reserved.model)
        raise UpstreamError(UpstreamFault.STATUS, "it does not have the model", status=status, is_refusal=True)
    if context_exceeded(status, response.body) is not None:
        raise UpstreamError(UpstreamFault.STATUS, f"it answered {status}", status=status)


def _note_unserved(failover: "Failover", attempt: Attempt, response: Response) -> None:
    """Ask the backend at another endpoint, if it has one: now, and for later requests."""
    asked_at, model = response.expected.endpoint.name, attempt.reserved.model
    failover.plane.fleet.report_unsupported(attempt.backend.id, asked_at, model)
    failover.routing.note_unserved(attempt.reserved)


def _has_translations(failover: "Failover") -> bool:
    """Whether the backend may be asked at another endpoint."""
    return failover.request.endpoint.name in failover.settings.router.translations


def as_context_error(failover: "Failover", attempt: Attempt, exc: UpstreamError) -> UpstreamError:
    """Return *exc*, or a CONTEXT_EXCEEDED if the backend's own error says that the prompt exceeds its context."""
    response = attempt.asked
    if response is None or exc.status is None or response.mode != "whole":
        return exc
    exceeded = context_exceeded(exc.status, response.body)
    if exceeded is None:
        return exc
    failover.routing.note_too_long(attempt.reserved, exceeded.limit)
    return UpstreamError(
        UpstreamFault.CONTEXT_EXCEEDED, "the prompt exceeds its context", status=exc.status, is_refusal=True
    )


def last_word(failover: "Failover") -> Attempt:
    """Return the failed attempt whose own error may be passed on; raise the error that the client is told instead."""
    if failover.last_failure is None:
        raise RequestError("no_healthy_backend", "no backend could be asked", retry_after_s=5)
    attempt, exc, failed_in = failover.last_failure
    if attempt.translation is not None and attempt.translation.endpoint.name == TOKENIZE:
        raise RequestError("protocol_not_supported", "no backend with this model counts tokens")
    if is_elsewhere(failover, exc) or (_is_for_the_client(failover, attempt, exc) and is_presentable(attempt)):
        return attempt
    # The request failed there, not where routing found no further backend.
    failover.record.enter(failed_in)
    if monotonic() >= failover.deadline:
        raise RequestError("deadline_exceeded", "the request took longer than it may") from exc
    raise _told(failover, error_of(exc, retry_after_s=attempt.retry_after_s)) from exc


def _told(failover: "Failover", error: RequestError) -> RequestError:
    """Return the error of the last failure, together with what routing has said after it."""
    failed = Reject(error.code, error.message, retry_after_s=error.retry_after_s)
    reject = with_failures(failover, failover.routing.record.last_reject or failed)
    if error.code == "no_healthy_backend":
        # A backend that was not reached has said nothing: the client is told what routing says.
        return rejection(reject)
    if error.status == SERVICE_UNAVAILABLE or reject.code == EXHAUSTED:
        own = replace(reject, code=error.code, message=error.message, retry_after_s=error.retry_after_s)
        return rejection(own)
    return error


def with_failures(failover: "Failover", reject: Reject) -> Reject:
    """Return *reject* with the attempts that have failed among its reasons."""
    failures = failures_of(failover)
    return after_attempts(reject, failures, failover.plane.fleet.snapshot.backends) if failures else reject


def failures_of(failover: "Failover") -> tuple[Verdict, ...]:
    """Return why each backend that was asked has not answered."""
    return tuple(as_verdict(attempt.outcome) for attempt in failover.attempts if attempt.outcome is not None)


def is_elsewhere(failover: "Failover", exc: UpstreamError) -> bool:
    """Whether the backend says that it does not have what was asked for, while another one may."""
    return exc.fault is UpstreamFault.STATUS and exc.status in resources.NOT_HERE and _is_search(failover)


def _is_search(failover: "Failover") -> bool:
    """Whether only the backends know which of them has what the request is about."""
    is_about_any = failover.request.endpoint.model != "body" or bool(failover.requirements.references)
    return is_about_any and failover.kept is None


def is_presentable(attempt: Attempt) -> bool:
    """Whether a backend's own error may go to the client: a JSON object that is not too large."""
    response = attempt.asked
    if response is None or not response.is_ended or response.mode != "whole" or response.status < FIRST_ERROR:
        return False
    body = response.body
    if len(body) > MAX_ERROR_BYTES:
        return False
    try:
        msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return False
    return True


def _is_for_the_client(failover: "Failover", attempt: Attempt, exc: UpstreamError) -> bool:
    """Whether the backend's own error is about the request, rather than about the proxy's key."""
    if exc.status is None or meaning_of(exc.status) is not StatusMeaning.CREDENTIALS:
        return exc.status is not None
    return _takes_clients_key(failover, attempt)


def _takes_clients_key(failover: "Failover", attempt: Attempt) -> bool:
    """Whether the key that this backend sees is the client's, if it sends one."""
    return not attempt.upstream.head_template.replaces_credentials and failover.may_pass_credentials(attempt)
