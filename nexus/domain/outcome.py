"""How an exchange ended: the one value that the data plane hands up."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal

import msgspec

from nexus.domain.request import TokenUsage

Phase = Literal["receive", "understand", "route", "queue", "send", "await_first_byte", "relay", "settle"]
"""The phases of an exchange; each is a log field, a metric label and a heading in life-of-a-request."""


class Ending(StrEnum):
    """How an exchange, or one attempt at a backend, ended."""

    FINISHED = "finished"
    """The whole answer went to the client, whatever its status."""
    CLIENT_LEFT = "client_left"
    CLIENT_STALLED = "client_stalled"
    """The client stopped reading for longer than the write stall deadline."""
    BAD_REQUEST = "bad_request"
    """The client's own bytes were at fault; nothing was sent to a backend."""
    REJECTED = "rejected"
    """No backend may or can have it now."""
    BACKEND_FAILED = "backend_failed"
    """The backend broke, stalled or timed out."""
    TIMED_OUT = "timed_out"
    """The deadline of the whole exchange passed."""
    SHUT_DOWN = "shut_down"
    NEXUS_FAILED = "nexus_failed"
    """A defect of Nexus or of a plugin."""


class Result(StrEnum):
    """What came of an exchange, whatever status it began with: what pages, metrics and filters tell apart."""

    FINISHED = "finished"
    """The client got its whole answer, and it is no error."""
    FAILED = "failed"
    """The answer is an error: the backend's own or one about it, as a status or as an event of a stream."""
    TRUNCATED = "truncated"
    """The answer began well and broke off."""
    STALLED = "stalled"
    """The answer began well, and nothing more of it came."""
    CLIENT_LEFT = "client_left"
    """The client closed its connection, or stopped reading."""
    REJECTED = "rejected"
    """Nexus refused it: by a stage, at a limit, in the queue, for its model or for what is wrong with the request."""
    SHUT_DOWN = "shut_down"
    """Nexus shut down."""


_RESULT_OF_ENDING: Final[Mapping[Ending, Result]] = {
    Ending.CLIENT_LEFT: Result.CLIENT_LEFT,
    Ending.CLIENT_STALLED: Result.CLIENT_LEFT,
    Ending.BAD_REQUEST: Result.REJECTED,
    Ending.REJECTED: Result.REJECTED,
    Ending.SHUT_DOWN: Result.SHUT_DOWN,
}
"""Of any other ending, the status and the code decide."""

_RESULT_OF_CODE: Final[Mapping[str | None, Result]] = {
    "stream_stalled": Result.STALLED,
    "upstream_error": Result.FAILED,
}
"""Of an answer that has begun well; one with any other code broke off."""

FIRST_ERROR: Final = 400
FIRST_SERVER_ERROR: Final = 500


class AttemptOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one backend; what a hold is settled with."""

    backend: str
    """Its name."""
    backend_id: str
    model: str
    """The name under which the backend was asked; empty when no model was asked for anything."""
    ending: Ending
    fault: str | None = None
    """A member of :class:`nexus.errors.UpstreamFault`, or a code of ``IN_STREAM_CODES``, when the backend failed."""
    is_sent: bool = False
    """Whether the request was handed to a connection: from then on, the backend may have worked on it."""
    status: int | None = None
    """The backend's HTTP status, None when there was none."""
    duration_s: float = 0.0
    is_stream: bool = False
    """Whether the answer came event by event: only then does its first content come before its end."""
    first_byte_s: float | None = None
    """From sending, connecting included, to the first content of the answer, which roles, pings and other lifecycle
    events are not; of an answer that is no stream, to its first byte. None when there was none."""
    last_content_s: float | None = None
    """The same to the last that came of a stream; None of any other answer."""
    content_blocks: int = 0
    """In how many pieces a stream came: as many as tokens, where each comes by itself."""
    usage: TokenUsage | None = None
    """None when the backend did not report any."""
    wants_stream: bool = False
    """Whether the request asked for a stream, whatever came."""
    max_tokens: int | None = None
    """The longest answer that the request accepts; None when it did not say."""
    silent_s: float = 0.0
    """For how long, when it ended, the backend had given no sign of life on any request for the model, this one
    included."""


class ExchangeOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One request and how it ended, told to every observer exactly once."""

    request_id: str
    """The one that Nexus gave it; no two requests have the same."""
    client_request_id: str | None = None
    """The ``X-Request-Id`` that the client sent, None when it sent none. Two requests may have the same."""
    endpoint: str
    protocol: str
    method: str = "POST"
    model: str | None
    """As the client sent it; None when it named none, or could not be read."""
    resolved_model: str | None
    """After aliases and fallbacks: the name that was routed last."""
    is_stream: bool
    ending: Ending
    status: int
    """What the client was sent; 499 when it left before that."""
    code: str | None
    """The error code, None when there was no error."""
    error_message: str | None = None
    """What the client was told with it."""
    rejected_by: str | None = None
    """The stage that refused it, or ``queue``; None of any that no stage refused."""
    rejected_because: str | None = None
    """Why, in the words of the stage; None where ``rejected_by`` is."""
    phase: Phase
    """The phase in which it ended."""
    termination: str
    """Two letters: who ended it and in which state; the table is in the reference of the access log."""
    route_reason: str | None
    fallback_model: str | None
    attempts: tuple[AttemptOutcome, ...]
    received_at: float
    """Unix seconds."""
    duration_s: float
    queued_s: float
    first_byte_s: float | None
    """From the request's first byte to the first content sent back."""
    usage: TokenUsage | None
    """Of the last attempt: as its backend reported it, else an estimate; None where nothing was answered."""
    bytes_in: int
    bytes_out: int
    cost_usd: float | None = None
    """What all its attempts have cost together, as far as stages know; None when none of them does."""

    @property
    def result(self) -> Result:
        """What came of it."""
        if self.ending is Ending.FINISHED:
            return Result.FINISHED if self.status < FIRST_ERROR else Result.FAILED
        if (result := _RESULT_OF_ENDING.get(self.ending)) is not None:
            return result
        if self.status < FIRST_ERROR:
            return _RESULT_OF_CODE.get(self.code, Result.TRUNCATED)
        # One whose time is over before any backend was asked has only waited.
        return Result.REJECTED if self.ending is Ending.TIMED_OUT and not self.attempts else Result.FAILED

    @property
    def is_failure(self) -> bool:
        """Whether the client did not get its answer, and is not to blame: it neither left nor asked wrongly (4xx)."""
        is_clients_own = FIRST_ERROR <= self.status < FIRST_SERVER_ERROR
        return not is_clients_own and self.result not in (Result.FINISHED, Result.CLIENT_LEFT)

    @property
    def backend(self) -> str | None:
        """The name of the backend tried last, None when none was."""
        return self.attempts[-1].backend if self.attempts else None
