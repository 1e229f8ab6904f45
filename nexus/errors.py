"""The exceptions that Nexus raises on purpose, and the error codes that clients get."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Final


class NexusError(Exception):
    """The base of all errors that Nexus raises on purpose."""


class ConfigError(NexusError):
    """The configuration is wrong; the text names file, key and what was expected.

    When a plugin raises it, Nexus adds the file, the plugin's table and the line.

    :param key: the wrong key of the plugin's table.
    :param hint: what to do about it.
    """

    def __init__(self, text: str, *, key: str = "", hint: str = "") -> None:
        super().__init__(text)
        self.key = key
        self.hint = hint


class PluginError(NexusError):
    """A plugin cannot be loaded, configured, built or started; the text names it."""


class StartError(NexusError):
    """Nexus cannot start although its configuration is valid: a port is in use, a file is locked."""


class StoreError(NexusError):
    """A store operation failed and changed nothing; the text names the store and the reason."""


class StageFailed(NexusError):
    """A stage failed that declares that requests are rejected then."""

    def __init__(self, plugin: str, stage: str) -> None:
        super().__init__(f"stage '{stage}' of plugin '{plugin}' failed")
        self.plugin = plugin
        self.stage = stage


STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "bad_request": 400,
    "invalid_json": 400,
    "invalid_value": 400,
    "unsupported_parameter": 400,
    "duplicate_header": 400,
    "capability_mismatch": 400,
    "context_length_exceeded": 400,
    "previous_response_not_found": 400,
    "invalid_api_key": 401,
    "forbidden": 403,
    "cross_origin": 403,
    "model_not_found": 404,
    "not_found": 404,
    "object_not_found": 404,
    "protocol_not_supported": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "too_large": 413,
    "uri_too_long": 414,
    "unsupported_media_type": 415,
    "unsupported_content_encoding": 415,
    "expectation_failed": 417,
    "misdirected_request": 421,
    "upgrade_required": 426,
    "upstream_rate_limited": 429,
    "headers_too_large": 431,
    "internal_error": 500,
    "transfer_coding": 501,
    "bad_gateway": 502,
    "event_too_large": 502,
    "backend_tls": 502,
    "backend_auth": 502,
    "no_healthy_backend": 503,
    "rejected_by_policy": 503,
    "fallback_exhausted": 503,
    "queue_full": 503,
    "queue_timeout": 503,
    "overloaded": 503,
    "draining": 503,
    "policy_unavailable": 503,
    "backend_unavailable": 503,
    "connect_timeout": 504,
    "ttft_timeout": 504,
    "deadline_exceeded": 504,
    "http_version": 505,
    "loop_detected": 508,
}
"""The HTTP status of each error code that a client can get before its answer has begun."""

IN_STREAM_CODES: Final = frozenset(
    {"stream_truncated", "stream_stalled", "event_too_large", "server_shutdown", "upstream_error", "deadline_exceeded"}
)
"""The error codes that can end an answer that has begun."""


class RequestError(NexusError):
    """A request ends with an error in the client's protocol.

    :param code: a key of :data:`STATUS_OF_CODE`.
    :param message: what was wrong and what to do; it quotes nothing of the request but names.
    :param param: the wrong field of the request, if there is one.
    :param context: what would have to change for the request to succeed.
    :param retry_after_s: seconds after which the client may retry.
    :param close: whether the connection must be closed.
    :param stage: the stage that refused the request, if one did.
    :param reason: why it did, for the operator.
    """

    def __init__(  # noqa: PLR0913 - the parts of one error reply, all but two of them optional
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        context: Mapping[str, Any] | None = None,
        retry_after_s: int | None = None,
        close: bool = False,
        headers: Mapping[str, str] | None = None,
        stage: str | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = STATUS_OF_CODE[code]
        self.message = message
        self.param = param
        self.context = context
        self.retry_after_s = retry_after_s
        self.close = close
        self.headers = headers
        self.stage = stage
        self.reason = reason


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


class UpstreamError(NexusError):
    """An attempt at a backend failed; :mod:`nexus.proxy.exchange.retry` decides what happens next.

    :param is_refusal: whether the backend refused the request before it began to process it.
    """

    def __init__(
        self, fault: UpstreamFault, message: str, *, status: int | None = None, is_refusal: bool = False
    ) -> None:
        super().__init__(message)
        self.fault = fault
        self.status = status
        self.is_refusal = is_refusal


MAX_COMPARED: Final = 100
"""Characters of a name that are compared: the time grows with the square of the length."""


def did_you_mean(name: str, known: Iterable[str], *, before: str = "; ") -> str:
    """Return *before* and ``did you mean 'x'?`` for the closest of *known*; empty when none is close."""
    spelled = {each.lower(): each for each in sorted(known)}
    closest = get_close_matches(name[:MAX_COMPARED].lower(), spelled, n=1)
    return f"{before}did you mean '{spelled[closest[0]]}'?" if closest else ""
