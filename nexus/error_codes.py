"""The error codes that clients are given: one row each, with all that depends on the code.

What a protocol calls an error stands with the protocol, in ``nexus/wire/<protocol>/errors.py``.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal, NamedTuple

CausedBy = Literal["bad_request", "rejected", "backend_failed", "timed_out", "shut_down", "nexus_failed"]
"""The value of :class:`nexus.domain.outcome.Ending` that an exchange has which ends with the code."""


class ErrorCode(NamedTuple):
    """What follows from one code."""

    status: int | None
    """The HTTP status; None for a code that only ends a reply which has already begun."""
    ending: CausedBy = "bad_request"
    retry: Literal["soon", "never", "unknown"] = "unknown"
    """Whether the client should try again: ``soon`` gets a ``Retry-After``, ``never`` tells client libraries not to."""
    in_stream: str | None = None
    """The message with which the code ends a reply that has already begun; None for a code that cannot."""


CODES: Final[Mapping[str, ErrorCode]] = {
    "bad_request": ErrorCode(400),
    "invalid_json": ErrorCode(400),
    "invalid_value": ErrorCode(400),
    "unsupported_parameter": ErrorCode(400),
    "not_translatable": ErrorCode(400, "rejected", "never"),
    "duplicate_header": ErrorCode(400),
    "capability_mismatch": ErrorCode(400, "rejected"),
    "context_length_exceeded": ErrorCode(400, "rejected"),
    "previous_response_not_found": ErrorCode(400),
    "invalid_api_key": ErrorCode(401),
    "forbidden": ErrorCode(403),
    "cross_origin": ErrorCode(403),
    "model_not_found": ErrorCode(404, "rejected"),
    "not_found": ErrorCode(404),
    "object_not_found": ErrorCode(404),
    "protocol_not_supported": ErrorCode(404, "rejected"),
    "method_not_allowed": ErrorCode(405),
    "request_timeout": ErrorCode(408),
    "too_large": ErrorCode(413),
    "uri_too_long": ErrorCode(414),
    "unsupported_media_type": ErrorCode(415),
    "unsupported_content_encoding": ErrorCode(415),
    "expectation_failed": ErrorCode(417),
    "misdirected_request": ErrorCode(421),
    "upgrade_required": ErrorCode(426),
    "upstream_rate_limited": ErrorCode(429, "backend_failed", "soon"),
    "headers_too_large": ErrorCode(431),
    "internal_error": ErrorCode(500, "nexus_failed"),
    "transfer_coding": ErrorCode(501, "rejected"),
    "bad_gateway": ErrorCode(502, "backend_failed"),
    "backend_tls": ErrorCode(502, "backend_failed"),
    "backend_auth": ErrorCode(502, "backend_failed"),
    "no_healthy_backend": ErrorCode(503, "rejected", "soon"),
    "rejected_by_policy": ErrorCode(503, "rejected", "never"),
    "fallback_exhausted": ErrorCode(503, "rejected"),
    "queue_full": ErrorCode(503, "rejected"),
    "queue_timeout": ErrorCode(503, "timed_out"),
    "overloaded": ErrorCode(503, "rejected"),
    "draining": ErrorCode(503, "shut_down"),
    "policy_unavailable": ErrorCode(503, "rejected"),
    "backend_unavailable": ErrorCode(503, "backend_failed", "soon"),
    "connect_timeout": ErrorCode(504, "backend_failed", "soon"),
    "ttft_timeout": ErrorCode(504, "backend_failed"),
    "http_version": ErrorCode(505, "rejected"),
    "loop_detected": ErrorCode(508, "rejected"),
    # These may also end a reply that has already begun.
    "deadline_exceeded": ErrorCode(504, "timed_out", in_stream="the answer took longer than it may"),
    "event_too_large": ErrorCode(
        502, "backend_failed", in_stream="the backend sent an event that is longer than the proxy's limits"
    ),
    # These can do nothing else.
    "stream_truncated": ErrorCode(
        None, "backend_failed", in_stream="the backend ended the stream before the answer was complete"
    ),
    "stream_stalled": ErrorCode(None, "backend_failed", in_stream="the backend sent nothing more for too long"),
    "upstream_error": ErrorCode(None, "backend_failed", in_stream="the backend broke the stream"),
    "server_shutdown": ErrorCode(None, "shut_down", in_stream="the proxy is shutting down"),
}

REPLY_CODES: Final = frozenset(code for code, row in CODES.items() if row.status is not None)
"""The codes of a reply that is an error from its beginning."""
IN_STREAM_CODES: Final = frozenset(code for code, row in CODES.items() if row.in_stream is not None)
"""The codes that can end a reply which has already begun."""


class UpstreamFault(StrEnum):
    """How an attempt at a backend failed before any byte of its answer was sent to the client."""

    REFUSED = "refused"
    """Connection refused, host unreachable or name not found: nothing was sent."""
    CONNECT_TIMEOUT = "connect_timeout"
    """No connection, TLS included, within its deadline: nothing was sent."""
    TLS = "tls"
    """The TLS handshake or the certificate check failed: nothing was sent."""
    STALE = "stale"
    """A reused connection was closed without any answer: the request was very likely not read."""
    RESET = "reset"
    """A new connection was closed before the answer's head was complete."""
    PROTOCOL = "protocol"
    """The answer is not HTTP, or breaks its framing."""
    EVENT_TOO_LARGE = "event_too_large"
    """An event of a stream exceeds the limit."""
    TRUNCATED = "truncated"
    """The answer's body ended too early, before any of it was passed on."""
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    """Connected and sent, but no answer within the deadline."""
    SILENT = "silent"
    """Connected and sent, but no answer for longer than usual, so another backend was tried."""
    STATUS = "status"
    """The backend answered with a status for which another backend is tried."""
    CREDENTIALS = "credentials"
    """The backend refused its configured key, or the account of that key."""
    IN_STREAM_ERROR = "in_stream_error"
    """The answer had a success status but was an error: the first event of a stream, or a document."""
    CONTEXT_EXCEEDED = "context_exceeded"
    """The prompt exceeds the model's context at this backend; another backend may have a longer one."""


class FaultCodes(NamedTuple):
    """What a fault becomes for the client when no other backend answers."""

    before: str
    """The code when nothing of a reply has been sent."""
    in_stream: str = "upstream_error"
    """The code that ends a reply which has already begun."""


CODES_OF_FAULT: Final[Mapping[UpstreamFault, FaultCodes]] = {
    UpstreamFault.REFUSED: FaultCodes("no_healthy_backend"),
    UpstreamFault.CONNECT_TIMEOUT: FaultCodes("connect_timeout"),
    UpstreamFault.TLS: FaultCodes("backend_tls"),
    UpstreamFault.STALE: FaultCodes("bad_gateway"),
    UpstreamFault.RESET: FaultCodes("bad_gateway", "stream_truncated"),
    UpstreamFault.PROTOCOL: FaultCodes("bad_gateway"),
    UpstreamFault.EVENT_TOO_LARGE: FaultCodes("event_too_large", "event_too_large"),
    UpstreamFault.TRUNCATED: FaultCodes("bad_gateway", "stream_truncated"),
    UpstreamFault.FIRST_BYTE_TIMEOUT: FaultCodes("ttft_timeout"),
    UpstreamFault.SILENT: FaultCodes("ttft_timeout"),
    UpstreamFault.STATUS: FaultCodes("bad_gateway"),
    UpstreamFault.CREDENTIALS: FaultCodes("backend_auth"),
    UpstreamFault.IN_STREAM_ERROR: FaultCodes("bad_gateway"),
    UpstreamFault.CONTEXT_EXCEEDED: FaultCodes("context_length_exceeded"),
}

CODE_OF_BACKEND_STATUS: Final[Mapping[int, str]] = {
    429: "upstream_rate_limited",
    503: "backend_unavailable",
    529: "backend_unavailable",
}
"""The code for a status of a backend whose own error cannot be passed on; for any other status, that of the fault."""
