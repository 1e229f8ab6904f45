"""How an attempt and an exchange ended."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal

import msgspec

from nexus.domain.request import TokenUsage
from nexus.domain.statuses import FIRST_ERROR

Phase = Literal["receive", "understand", "route", "queue", "send", "await_first_byte", "relay", "settle"]
"""The phases of an exchange; each is a log field, a metric label and a heading in life-of-a-request."""


class Ending(StrEnum):
    """How an exchange, or one attempt at a backend, ended."""

    FINISHED = "finished"
    """The client received the whole answer, whatever its status."""
    CLIENT_LEFT = "client_left"
    CLIENT_STALLED = "client_stalled"
    """The client stopped reading for longer than the write stall deadline."""
    BAD_REQUEST = "bad_request"
    """The client's request was at fault; nothing was sent to a backend."""
    REJECTED = "rejected"
    """No backend may or can take it now."""
    BACKEND_FAILED = "backend_failed"
    """The backend broke, stalled or timed out."""
    TIMED_OUT = "timed_out"
    """The deadline of the whole exchange passed."""
    SHUT_DOWN = "shut_down"
    NEXUS_FAILED = "nexus_failed"
    """A defect of Nexus or of a plugin."""


class Result(StrEnum):
    """The result of an exchange, as pages, metrics and filters report it."""

    FINISHED = "finished"
    """The client received its whole answer, which is no error."""
    FAILED = "failed"
    """The answer is an error, of the backend or about it, as a status or as an event of a stream."""
    TRUNCATED = "truncated"
    """The answer began well and was cut off."""
    STALLED = "stalled"
    """The answer began well and then stalled."""
    CLIENT_LEFT = "client_left"
    """The client closed its connection, or stopped reading."""
    REJECTED = "rejected"
    """Nexus refused it: a stage, a limit, the queue, an unknown model, or a fault of the request."""
    SHUT_DOWN = "shut_down"
    """Nexus shut down."""


_RESULT_OF_ENDING: Final[Mapping[Ending, Result]] = {
    Ending.CLIENT_LEFT: Result.CLIENT_LEFT,
    Ending.CLIENT_STALLED: Result.CLIENT_LEFT,
    Ending.BAD_REQUEST: Result.REJECTED,
    Ending.REJECTED: Result.REJECTED,
    Ending.SHUT_DOWN: Result.SHUT_DOWN,
}
"""For any other ending, the status and the code decide."""

_RESULT_OF_CODE: Final[Mapping[str | None, Result]] = {
    "stream_stalled": Result.STALLED,
    "upstream_error": Result.FAILED,
}
"""Of an answer that began well; with any other code it was cut off."""

_FINISHED_ENDING: Final = Ending.FINISHED
_FINISHED: Final = Result.FINISHED
"""Kept here: up to Python 3.11, each look at a member through its class takes as long as a call."""

FIRST_SERVER_ERROR: Final = 500


class AttemptOutcome(msgspec.Struct, frozen=True):
    """The outcome of one attempt at one backend, which settles its holds."""

    backend: str
    """The backend's name."""
    backend_id: str
    model: str
    """The backend's own name for it; empty when the request asks no model."""
    ending: Ending
    fault: str | None = None
    """A member of ``error_codes.UpstreamFault``, or a code of ``IN_STREAM_CODES``, when the backend failed."""
    is_sent: bool = False
    """Whether the request was written to a connection: from then on, the backend may have worked on it."""
    status: int | None = None
    """The backend's HTTP status, None without a response."""
    duration_s: float = 0.0
    is_stream: bool = False
    """Whether the answer came event by event, so that its first content came before its end."""
    first_byte_s: float | None = None
    """From sending, connecting included, to the first content of a stream (roles, pings and other lifecycle events are
    none), or to the first byte of any other answer. None when there was none."""
    last_content_s: float | None = None
    """From sending to the last content of a stream; None for any other answer."""
    content_blocks: int = 0
    """The pieces of a stream: as many as tokens, if the backend sends each by itself."""
    usage: TokenUsage | None = None
    """None when the backend did not report any."""
    wants_stream: bool = False
    """Whether the request asked for a stream, whatever the answer was."""
    max_tokens: int | None = None
    """The longest answer that the request accepts; None when it sets no limit."""
    prompt_tokens: int = 0
    """About how long its prompt is, as estimated before it was sent."""
    silent_s: float = 0.0
    """How long, when it ended, the backend had sent nothing on any request for the model, this one included."""
    load_s: float | None = None
    """How long the backend loaded the model into memory, or has been loading it so far; None: not at all, as far as is
    known."""


class ExchangeOutcome(msgspec.Struct, frozen=True):
    """One request and how it ended, reported to every observer exactly once."""

    request_id: str
    """Assigned by Nexus, and unique."""
    endpoint: str
    protocol: str
    model: str | None
    """As the client sent it; None when it named none or the request could not be read."""
    resolved_model: str | None
    """After aliases and fallbacks: the name that was routed last."""
    is_stream: bool
    ending: Ending
    status: int
    """The status sent to the client; 499 when it left before that."""
    code: str | None
    """The error code, None when there was no error."""
    phase: Phase
    """The phase in which it ended."""
    termination: str
    """Two letters: the side that ended it, and the state; see the table in the reference of the access log."""
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
    """Of the last attempt: as its backend reported it, else an estimate; None without an answer."""
    bytes_in: int
    bytes_out: int
    client_request_id: str | None = None
    """The client's ``X-Request-Id``, None when it sent none; not necessarily unique."""
    method: str = "POST"
    error_message: str | None = None
    """The message that the client got with it."""
    rejected_by: str | None = None
    """The stage that refused it, or ``queue``; None when neither did."""
    rejected_because: str | None = None
    """The reason that the stage gave; None when ``rejected_by`` is None."""
    cost_usd: float | None = None
    """The cost of all its attempts, as far as stages know it; None when no stage does."""
    translated: str | None = None
    """The translation of the answer, such as ``anthropic->openai``; None: the backend spoke the client's protocol."""
    untranslated: tuple[str, ...] = ()
    """The fields of the request that this translation could not carry over."""

    @property
    def result(self) -> Result:
        """The result, derived from ending, status and code."""
        if self.ending is _FINISHED_ENDING:
            return _FINISHED if self.status < FIRST_ERROR else Result.FAILED
        if (result := _RESULT_OF_ENDING.get(self.ending)) is not None:
            return result
        if self.status < FIRST_ERROR:
            return _RESULT_OF_CODE.get(self.code, Result.TRUNCATED)
        # If its deadline passed before any attempt, it has only waited in the queue.
        return Result.REJECTED if self.ending is Ending.TIMED_OUT and not self.attempts else Result.FAILED

    @property
    def is_failure(self) -> bool:
        """Whether the client got no good answer through no fault of its own: it neither left nor got a 4xx."""
        is_clients_own = FIRST_ERROR <= self.status < FIRST_SERVER_ERROR
        return not is_clients_own and self.result not in (Result.FINISHED, Result.CLIENT_LEFT)

    @property
    def backend(self) -> str | None:
        """The name of the backend tried last, None when none was."""
        return self.attempts[-1].backend if self.attempts else None
