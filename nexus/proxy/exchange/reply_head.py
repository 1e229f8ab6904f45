"""The head of the reply to the client, made of a backend's response and of what routing decided."""

from time import monotonic
from typing import Final

from nexus.domain.backend import Status
from nexus.domain.statuses import FIRST_ERROR
from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.exchange.record import Record
from nexus.proxy.exchange.rejection import RETRY_AFTER_S, ascii_only
from nexus.proxy.exchange.response import Response
from nexus.proxy.headers.to_client import STATUS_LINES, date_line, id_lines, passed_lines
from nexus.proxy.upstream.response_parser import ResponseHead

LOADING: Final = 503
"""The status with which a server answers that loads its model."""


def reply_head(record: Record, attempt: Attempt, response: Response, attempts: int) -> bytes:
    """Return the head of the reply, all but its framing and its empty line.

    :param attempts: how many backends were asked.
    :raises UpstreamError: the headers of the response may not be passed on.
    """
    reserved, upstream, head = attempt.reserved, attempt.upstream, response.head
    is_last_word = attempts > 1 and response.status >= FIRST_ERROR
    if is_last_word:
        head = head.without(b"x-should-retry")
    lines = passed_lines(head.headers, (record.client_request_id or record.request_id).encode())
    parts = [
        STATUS_LINES[response.status],
        upstream.redacted(lines) if upstream.secrets else lines,
        upstream.lines[attempt.backend.zone_of(reserved.model)],
        b"X-Nexus-Route-Reason: %b\r\n%b"
        % (reserved.route_reason.encode(), id_lines(record.request_id, record.client_request_id)),
    ]
    if attempt.translation is not None:
        parts.append(attempt.translation.lines)
    if reserved.fallback_model is not None:
        parts.append(b"X-Nexus-Fallback-Model: %b\r\n" % ascii_only(reserved.fallback_model).encode())
    if record.decision_line or attempts > 1 or attempt.load is not None or attempt.told_load_s:
        parts += record.decision_line, _attempts_line(attempts), _loading_line(attempt)
    if response.status >= FIRST_ERROR:
        parts.append(_advice(attempt, head, is_last_word=is_last_word))
    for hold in reserved.holds:
        for name, value in hold.headers(attempt.usage).items():
            parts.append(f"{name}: {ascii_only(value)}\r\n".encode())
    if not head.has(b"date"):
        parts.append(date_line())
    if response.mode == "events":
        parts.append(b"X-Accel-Buffering: no\r\n")
    return b"".join(parts)


def _attempts_line(attempts: int) -> bytes:
    return b"X-Nexus-Attempts: %d\r\n" % attempts if attempts > 1 else b""


def _loading_line(attempt: Attempt) -> bytes:
    """Return the line that says for how long the model was loaded so far; empty if that is not certain."""
    loading_s = attempt.loading_s(monotonic())
    if loading_s is None:
        return b""
    return f"X-Nexus-Loading: {ascii_only(attempt.reserved.model)}; seconds={loading_s:.0f}\r\n".encode()


def _advice(attempt: Attempt, head: ResponseHead, *, is_last_word: bool) -> bytes:
    """Return the lines that tell the client's library whether and when to try again."""
    # The library would try again what has just been tried everywhere.
    lines = b"x-should-retry: false\r\n" if is_last_word else b""
    if head.status == LOADING and attempt.backend.status is Status.LOADING and not head.has(b"retry-after"):
        # llama.cpp does not say when to come back: a client's library would try again at once, and give up.
        lines += b"Retry-After: %d\r\n" % RETRY_AFTER_S
    return lines
