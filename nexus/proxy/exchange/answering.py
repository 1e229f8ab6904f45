"""The small decisions about an answer: may it be shown, what is said with it, what is put back into it."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from nexus.domain.backend import Backend, Status
from nexus.domain.outcome import AttemptOutcome, Ending, Phase
from nexus.domain.request import Endpoint
from nexus.errors import RequestError, UpstreamError, UpstreamFault
from nexus.proxy.exchange.attempt import PATIENCE_S, Attempt
from nexus.proxy.exchange.expected_response import Mode
from nexus.proxy.exchange.record import Record
from nexus.proxy.exchange.response import Response
from nexus.proxy.headers.date import date_line
from nexus.proxy.headers.from_client import Head
from nexus.proxy.headers.to_client import passed_lines, retry_after_s, status_line
from nexus.routing.decision import Reject
from nexus.routing.intent import Verdict
from nexus.routing.rejections import decisive, reason_as_json, shortened, what_would_help
from nexus.wire.protocol import StreamScan, WireProtocol
from nexus.wire.requests import multipart
from nexus.wire.requests.model_field import insert_model, replace_model
from nexus.wire.responses.model_name import restore_in_document, restore_in_events
from nexus.wire.streams.event_buffer import EventRoom

MAX_ERROR_BYTES: Final = 1024 * 1024
"""Some frameworks repeat in an error what they refuse, such as a picture."""
LOADING: Final = 503
"""The status with which a server answers that loads its model."""

ENDING_OF_CODE: Final[Mapping[str, Ending]] = {
    "deadline_exceeded": Ending.TIMED_OUT,
    "server_shutdown": Ending.SHUT_DOWN,
}
"""What an in-stream error code says of who ended it; every other one is the backend's doing."""


def rejection(reject: Reject) -> RequestError:
    """Return what a client is told when routing finds nobody."""
    verdict = decisive(reject)
    return RequestError(
        reject.code,
        reject.message,
        param=_param_of(reject),
        context=reject.context,
        retry_after_s=reject.retry_after_s,
        headers=reason_headers(reject.reasons),
        stage=(reject.context or {}).get("stage") if verdict is None else verdict.stage,
        reason=reject.message if verdict is None else verdict.reason,
    )


def _param_of(reject: Reject) -> str | None:
    if reject.param is not None:
        return reject.param or None
    return "model" if reject.code in ("model_not_found", "protocol_not_supported") else None


def give_reasons(error: RequestError, reasons: Sequence[Verdict], backends: Iterable[Backend]) -> None:
    """Let *error* say why each backend did not answer and what would help, unless it says that already.

    :param backends: the whole fleet.
    """
    if error.context is None:
        error.context = what_would_help(reasons, backends)
        error.headers = {**(error.headers or {}), **reason_headers(reasons)}


def as_verdict(failed: AttemptOutcome) -> Verdict:
    """Return a failed attempt as a reason among those of the stages."""
    status = f" with status {failed.status}" if failed.status else ""
    return Verdict(failed.backend, "attempt", f"It was asked and failed{status}: {failed.fault or failed.ending}")


def reason_headers(reasons: Sequence[Verdict]) -> Mapping[str, str]:
    """Return what the head of a rejection says of *reasons*: little enough for any proxy before this one."""
    if not reasons:
        return {}
    stages = sorted({verdict.stage for verdict in reasons})
    count = len({verdict.backend for verdict in reasons})
    return {
        "X-Nexus-Rejection-Reasons": _ascii(shortened(f"{count} agents rejected by {', '.join(stages)}")),
        "X-Nexus-Rejection-Details": _details(reasons),
    }


def _details(reasons: Sequence[Verdict]) -> str:
    """Return as many of *reasons* as there is room for, as JSON in which all but ASCII is escaped."""
    told: list[str] = []
    room = MAX_DETAIL_BYTES
    for verdict in reasons[:MAX_DETAILS]:
        one = json.dumps({name: shortened(text, MAX_DETAIL) for name, text in reason_as_json(verdict).items()})
        room -= len(one) + len(", ")
        if room < 0:
            break
        told.append(one)
    return f"[{', '.join(told)}]"


MAX_DETAILS: Final = 10
MAX_DETAIL: Final = 100
"""Characters of each text, of which every one may take twelve bytes."""
MAX_DETAIL_BYTES: Final = 2048
"""Some proxies take 4 KiB for the whole head of an answer, and no more."""


def _ascii(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def ending_of(exc: RequestError) -> Ending:
    """Say who ended an exchange that ends with *exc*."""
    if exc.code == "draining":
        return Ending.SHUT_DOWN
    if exc.code == "internal_error":
        return Ending.NEXUS_FAILED
    if exc.code in ("deadline_exceeded", "queue_timeout"):
        return Ending.TIMED_OUT
    if exc.code in _BACKENDS_DOING:
        return Ending.BACKEND_FAILED
    return Ending.BAD_REQUEST if exc.status < 500 and exc.code not in _OURS else Ending.REJECTED


def rejecting_stage(exc: RequestError, phase: Phase) -> str | None:
    """Return which stage refused a request with *exc*, or ``queue``; None: no stage did."""
    if ending_of(exc) not in (Ending.REJECTED, Ending.BAD_REQUEST, Ending.TIMED_OUT):
        return None
    if exc.stage is not None:
        return exc.stage
    return "queue" if phase == "queue" or (phase == "route" and exc.code == "overloaded") else None


_BACKENDS_DOING: Final = frozenset(
    {
        "backend_auth",
        "backend_tls",
        "backend_unavailable",
        "bad_gateway",
        "connect_timeout",
        "event_too_large",
        "ttft_timeout",
        "upstream_rate_limited",
    }
)
_OURS: Final = frozenset(
    {"model_not_found", "protocol_not_supported", "capability_mismatch", "context_length_exceeded"}
)


def open_scan(
    protocol: WireProtocol, endpoint: Endpoint, room: EventRoom, listener: Callable[[str], None] | None
) -> StreamScan:
    """Return what reads a streamed answer, within *room*; *listener* is told its text."""
    scan = protocol.open_stream(endpoint)
    scan.bound(room)
    if listener is not None:
        scan.listen(listener)
    return scan


def refuse_unfinished(protocol: WireProtocol, endpoint: Endpoint, response: Response) -> None:
    """Raise UpstreamError (TRUNCATED) when a whole answer is not whole."""
    if response.status < 400 and not response.is_framed and not protocol.looks_complete(endpoint, response.body):
        raise UpstreamError(UpstreamFault.TRUNCATED, "the answer's document ends too early")


def names_missing_model(status: int, body: bytes) -> bool:
    """Whether an error says that the model is unknown, not the path: a 404, or the 400 of llama.cpp in router mode."""
    if status not in _UNKNOWN_STATUSES:
        return False
    text = body[:MAX_ERROR_BYTES].lower()
    if status == HTTPStatus.BAD_REQUEST:
        return _ROUTER_LACKS_MODEL.search(text) is not None
    return b"model" in text and (b"not found" in text or b"does not exist" in text or b"not_found" in text)


_UNKNOWN_STATUSES: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND})
_ROUTER_LACKS_MODEL: Final = re.compile(rb"\"message\"\s*:\s*\"model '[^'\"]{1,256}' not found\"")


def is_presentable(attempt: Attempt) -> bool:
    """Whether a backend's own error may go to the client: a JSON object of bearable size."""
    response = attempt.asked
    if response is None:
        return False
    if not response.is_ended or response.mode is not Mode.WHOLE or response.status < 400:
        return False
    body = response.body
    if len(body) > MAX_ERROR_BYTES:
        return False
    try:
        msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return False
    return True


def head_lines(record: Record, attempt: Attempt, attempts: int) -> bytes:
    """Make the head of the answer, all but its framing.

    :raises UpstreamError: when the backend's headers may not be passed on.
    """
    response = attempt.response
    request_id = record.shown_id.encode()
    is_last_word = attempts > 1 and response.status >= 400
    head = response.head.without(b"x-should-retry") if is_last_word else response.head
    parts = [
        status_line(response.status),
        redacted(passed_lines(head.headers, request_id), attempt.upstream.secrets),
        attempt.upstream.lines[attempt.backend.zone_of(attempt.reserved.model)],
        b"X-Nexus-Route-Reason: %b\r\n%b" % (record.route_reason.encode(), record.id_lines),
    ]
    if record.fallback_model is not None:
        parts.append(b"X-Nexus-Fallback-Model: %b\r\n" % _ascii(record.fallback_model).encode())
    if record.decision_line:
        parts.append(record.decision_line)
    if attempts > 1:
        parts.append(b"X-Nexus-Attempts: %d\r\n" % attempts)
    if is_last_word:
        # The client's library would try again what has just been tried everywhere.
        parts.append(b"x-should-retry: false\r\n")
    if response.status == LOADING and attempt.backend.status is Status.LOADING and not head.has(b"retry-after"):
        # llama.cpp does not say when to come back: a client's library would try again at once, and give up.
        parts.append(b"Retry-After: %d\r\n" % PATIENCE_S)
    for hold in attempt.reserved.holds:
        for name, value in hold.headers(attempt.usage).items():
            parts.append(f"{name}: {_ascii(value)}\r\n".encode())
    if not head.has(b"date"):
        parts.append(date_line())
    if response.mode is Mode.EVENTS:
        parts.append(b"X-Accel-Buffering: no\r\n")
    return b"".join(parts)


def is_renamed(attempt: Attempt, requested: str) -> bool:
    """Whether the backend has to be asked for another model than *requested*, and not only for another spelling."""
    model = attempt.reserved.model
    return bool(requested) and model != requested and model != attempt.backend.own_name(requested)


def lacks_name(endpoint: Endpoint, attempt: Attempt) -> bool:
    """Whether the backend has to be told the model of a request that names none."""
    backend = attempt.backend
    if not attempt.reserved.model or endpoint.model not in ("body", "maybe"):
        return False
    return len(backend.models) > 1 or (endpoint.model == "body" and backend.kind.needs_model_name)


def renamed(endpoint: Endpoint, head: Head, body: bytes, model: str) -> bytes:
    """Return *body* with the value of its model replaced, and no other byte."""
    if endpoint.body == "multipart":
        return multipart.replace_model(body, head.content_type, model)
    return replace_model(body, model)


def named(endpoint: Endpoint, head: Head, body: bytes, model: str) -> bytes:
    """Return *body*, which names no model, with *model* in it, and no other byte changed."""
    if endpoint.body == "multipart":
        return multipart.insert_model(body, head.content_type, model)
    return insert_model(body, model)


def restorer(attempt: Attempt, requested: str) -> Callable[[bytes], bytes] | None:
    """Return what puts the name that the client asked for back into a stream's events; None when none is to be."""
    if attempt.response.mode is not Mode.EVENTS or not _keeps_name(attempt, requested):
        return None
    sent = attempt.reserved.model
    return lambda events: restore_in_events(events, sent, requested)


def restored(body: bytes, attempt: Attempt, requested: str) -> bytes:
    """Return a whole answer with the name in it that the client asked for; a fallback's is as it came."""
    if not _keeps_name(attempt, requested):
        return body
    return restore_in_document(body, attempt.reserved.model, requested)


def _keeps_name(attempt: Attempt, requested: str) -> bool:
    """Whether the answer is to carry the name that the client asked for: that of an alias, which is the same model.

    A fallback is another model, and an answer names the one that made it.
    """
    return attempt.reserved.fallback_model is None and is_renamed(attempt, requested)


def redacted(words: bytes, secrets: Iterable[bytes]) -> bytes:
    """Return headers or an error body without *secrets*, our own: some servers repeat what they refuse."""
    for secret in secrets:
        words = words.replace(secret, b"***")
    return words


def retry_after_of(attempt: Attempt) -> float | None:
    """Return for how long a backend asks to be left alone, in seconds; None when it does not."""
    response = attempt.asked
    if response is None or response.status not in (429, 503):
        return None
    for name, value in response.headers:
        if name.lower() == b"retry-after":
            return retry_after_s(value)
    return None
