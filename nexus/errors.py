"""Everything Nexus raises on purpose: whose fault it is, what to do, may it be retried."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Final


class NexusError(Exception):
    """The root of all errors that Nexus raises on purpose."""


class ConfigError(NexusError):
    """The operator's configuration is wrong; the text names file, key and what was expected.

    Where a plugin raises it, Nexus adds the file, the plugin's table and the line.

    :param key: the key of the plugin's table that is at fault.
    :param hint: what to do about it.
    """

    def __init__(self, text: str, *, key: str = "", hint: str = "") -> None:
        super().__init__(text)
        self.key = key
        self.hint = hint


class PluginError(NexusError):
    """A plugin cannot be loaded, configured, built or started; the text says whose it is."""


class StartError(NexusError):
    """Nexus is configured well and still cannot start: a port in use, a file that is locked."""


class StoreError(NexusError):
    """The store cannot do now what was asked of it, and has changed nothing; the text says which store and why."""


class StageFailed(NexusError):
    """A stage of the pipeline failed and has declared that requests are then rejected."""

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
"""Each error code that a client can be given before its answer has begun, and the HTTP status it goes with."""

IN_STREAM_CODES: Final = frozenset(
    {"stream_truncated", "stream_stalled", "event_too_large", "server_shutdown", "upstream_error", "deadline_exceeded"}
)
"""Each error code that can end an answer which has already begun."""


class RequestError(NexusError):
    """A request ends here, with an error in the client's own protocol.

    :param code: a key of :data:`STATUS_OF_CODE`.
    :param message: what was wrong and what to do, without any byte of the request in it but names.
    :param param: the request field at fault, if there is one.
    :param context: the actionable part: what would have to change for this request to succeed.
    :param retry_after_s: whole seconds after which another try makes sense.
    :param close: whether the connection cannot be used any further.
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
    """How one attempt at a backend failed before any byte of its answer had gone to the client."""

    REFUSED = "refused"
    """Connection refused, host unreachable or name not found: nothing was sent."""
    CONNECT_TIMEOUT = "connect_timeout"
    """No connection, TLS included, within its deadline: nothing was sent."""
    TLS = "tls"
    """The TLS handshake or the certificate check failed: nothing was sent."""
    STALE = "stale"
    """A reused connection was closed without a byte in answer: almost surely nothing was read."""
    RESET = "reset"
    """A fresh connection was closed before the answer's head was complete."""
    PROTOCOL = "protocol"
    """What came back is not HTTP, or breaks its framing."""
    EVENT_TOO_LARGE = "event_too_large"
    """An event of a stream is longer than there is room for."""
    TRUNCATED = "truncated"
    """The answer's body ended too early, and nothing of it had been passed on."""
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    """Connected and sent, but no answer within its deadline."""
    SILENT = "silent"
    """Connected and sent, but no answer for longer than answers take, so another backend was asked instead."""
    STATUS = "status"
    """The backend answered with a status that another backend may do better than."""
    CREDENTIALS = "credentials"
    """The backend refused what the operator has configured for it: its key, or the account behind it."""
    IN_STREAM_ERROR = "in_stream_error"
    """The answer was an error that calls itself a success: the first event of a stream, or a document."""
    CONTEXT_EXCEEDED = "context_exceeded"
    """The backend said that the prompt exceeds the model's context there: a longer one may take it."""


class UpstreamError(NexusError):
    """One attempt at a backend failed; :mod:`nexus.proxy.exchange.retry` decides what happens next.

    :param is_refusal: whether the backend declined before it began to work.
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
