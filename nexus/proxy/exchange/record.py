"""The record of one exchange while it runs, and what is made of it at the end: the outcome and the access log."""

import logging
import time
from collections.abc import Mapping
from itertools import pairwise
from time import monotonic
from typing import Final

import msgspec
import structlog

from nexus.domain.outcome import FIRST_SERVER_ERROR, AttemptOutcome, Ending, ExchangeOutcome, Phase
from nexus.domain.request import Endpoint, Requirements, TokenUsage
from nexus.observability.logging.logs import LEVELS, Level, channel, write_line
from nexus.observability.tracing.trace import Trace
from nexus.proxy.exchange.access_line import access_line
from nexus.proxy.exchange.translating import Translation
from nexus.routing.decision import Reserved

LOGGER: Final = "nexus.proxy"

log = structlog.get_logger(LOGGER)
_channel = channel(LOGGER)

_FINISHED: Final = Ending.FINISHED
"""Kept here: up to Python 3.11, each look at a member through its class takes as long as a call."""

_CAUSE: Final = {
    Ending.FINISHED: "-",
    Ending.CLIENT_LEFT: "C",
    Ending.CLIENT_STALLED: "c",
    Ending.BAD_REQUEST: "C",
    Ending.REJECTED: "P",
    Ending.BACKEND_FAILED: "S",
    Ending.TIMED_OUT: "s",
    Ending.SHUT_DOWN: "K",
    Ending.NEXUS_FAILED: "I",
}
"""First letter of the termination code, the cause of the end: C and c the client, S and s the backend, P a rule of the
proxy, K its shutdown, I a defect of it, - a regular end."""

_PHASE: Final[dict[Phase, str]] = {
    "receive": "R",
    "understand": "R",
    "route": "Q",
    "queue": "Q",
    "send": "C",
    "await_first_byte": "H",
    "relay": "D",
    "settle": "L",
}
"""Second letter: the phase. R request, Q queue, C connect, H headers and first content, D data, L last byte, - none."""

_LEVEL: Final[Mapping[Ending, Level]] = {
    Ending.FINISHED: "info",
    Ending.CLIENT_LEFT: "info",
    Ending.CLIENT_STALLED: "info",
    Ending.BAD_REQUEST: "info",
    Ending.REJECTED: "warning",
    Ending.TIMED_OUT: "warning",
    Ending.SHUT_DOWN: "warning",
    Ending.BACKEND_FAILED: "error",
    Ending.NEXUS_FAILED: "error",
}
"""The level of the access line: a client that leaves is no warning, and an error is a request that stays unanswered."""


class Record(msgspec.Struct, eq=False):
    """The facts of one exchange, noted while it runs."""

    request_id: str
    client_request_id: str
    """The client's own, which need not be unique; empty when it sent none. Client and backend see it instead."""
    endpoint: Endpoint
    began_at: float
    """By the monotonic clock."""
    received_unix_s: float
    phases: list[tuple[Phase, float]]
    """Each visit to a phase, and when it began, by the monotonic clock."""
    method: str = "POST"
    requirements: Requirements | None = None
    reserved: Reserved | None = None
    """The last choice of routing."""
    bytes_in: int = 0
    bytes_out: int = 0
    decision_line: bytes = b""
    """The line of the reply's head that says where the decision can be read; empty unless the client wants it."""
    has_queued: bool = False
    has_answered: bool = False
    first_byte_s: float | None = None
    """From the beginning of the exchange to the first content."""
    ending: Ending = Ending.NEXUS_FAILED
    status: int = 0
    code: str | None = None
    error_message: str | None = None
    rejected_by: str | None = None
    """The stage that refused the request, or ``queue``; None: no stage did."""
    rejected_because: str | None = None
    cost_usd: float | None = None
    translated: Translation | None = None
    """How the answer was translated; None: it was not."""
    estimated: TokenUsage | None = None
    """An estimate, where the backend did not report the usage."""
    prompt_preview: str | None = None
    """The beginning of the prompt; None unless the operator wants it in the log."""
    trace: Trace | None = None
    """None unless exchanges are traced."""

    @property
    def phase(self) -> Phase:
        return self.phases[-1][0]

    def enter(self, phase: Phase) -> None:
        self.phases.append((phase, monotonic()))

    def enter_queue(self) -> None:
        self.has_queued = True
        self.enter("queue")

    def understood(self, requirements: Requirements) -> None:
        self.requirements = requirements
        if _channel.threshold <= logging.DEBUG:
            # Checked first: collecting the fields would cost every request more than the check.
            log.debug(
                "exchange_begun",
                request_id=self.request_id,
                endpoint=self.endpoint.name,
                model=requirements.model,
                stream=requirements.is_stream,
            )

    def answered(self, status: int, begun_at: float | None) -> None:
        """Note that the reply has begun to be sent."""
        self.has_answered = True
        self.status = status
        self.first_byte_s = None if begun_at is None else begun_at - self.began_at

    def begun(self, at: float | None) -> None:
        """Note when the first content arrived; None: not yet, though the head may have been sent."""
        self.first_byte_s = None if at is None else at - self.began_at

    def ended(self, ending: Ending, status: int, code: str | None = None, message: str | None = None) -> None:
        """Note how it ended; *status* counts unless another one has been sent before.

        :param message: the message that goes with *code*.
        """
        self.ending = ending
        self.code = code
        self.error_message = message
        if not self.has_answered:
            self.status = status

    def cost(self, usd: float) -> None:
        """Add the cost of one attempt."""
        self.cost_usd = usd + (self.cost_usd or 0.0)

    def crashed(self, exc: Exception) -> None:
        """Log a defect of Nexus."""
        log.error("exchange_crashed", request_id=self.request_id, endpoint=self.endpoint.name, exc_info=exc)

    def finish(self, attempts: tuple[AttemptOutcome, ...]) -> ExchangeOutcome:
        """Return the outcome, and write the access line."""
        now = monotonic()
        phase = self.phases[-1][0]
        requirements, reserved, endpoint = self.requirements, self.reserved, self.endpoint
        last = attempts[-1] if attempts else None
        is_whole = self.ending is _FINISHED
        # Positional: CPython makes a dict of more than 15 keywords first, which takes 15 times as long.
        outcome = ExchangeOutcome(
            self.request_id,
            endpoint.name,
            endpoint.protocol,
            (requirements.model or None) if requirements is not None else None,
            reserved.resolved_model if reserved is not None else None,
            requirements is not None and requirements.is_stream,
            self.ending,
            self.status,
            self.code,
            phase,
            "--" if is_whole else _CAUSE[self.ending] + _PHASE[phase],
            reserved.route_reason if reserved is not None else None,
            reserved.fallback_model if reserved is not None else None,
            attempts,
            self.received_unix_s,
            now - self.began_at,
            self._queued_s(now) if self.has_queued else 0.0,
            self.first_byte_s,
            self.estimated or (last.usage if last is not None else None),
            self.bytes_in,
            self.bytes_out,
            self.client_request_id or None,
            self.method,
            self.error_message,
            self.rejected_by,
            self.rejected_because,
            self.cost_usd,
            None if self.translated is None else self.translated.name,
            () if self.translated is None else self.translated.conversion.lost,
        )
        level = _level_of(outcome)
        if _channel.threshold <= LEVELS[level]:
            line = access_line(
                outcome,
                phases=(*self.phases, ("settle", now)),
                backend_type="unknown" if reserved is None else "local" if reserved.backend.kind.is_local else "cloud",
                prompt_preview=self.prompt_preview,
                trace_id=None if self.trace is None else self.trace.trace_id,
            )
            write_line(LOGGER, level, "exchange_finished", line)
        return outcome

    def _queued_s(self, now: float) -> float:
        visits = pairwise((*self.phases, ("settle", now)))
        return sum(until - since for (phase, since), (_, until) in visits if phase == "queue")


def begin_record(request_id: str, endpoint: Endpoint, client_request_id: str = "") -> Record:
    """Return the record of an exchange that begins now."""
    now = monotonic()
    received_unix_s = time.time()  # noqa: TID251 - an instant for people and policies, not a duration
    return Record(request_id, client_request_id, endpoint, now, received_unix_s, [("receive", now)])


def _level_of(outcome: ExchangeOutcome) -> Level:
    level = _LEVEL[outcome.ending]
    if level != "info":
        return level
    if outcome.ending is _FINISHED and outcome.status >= FIRST_SERVER_ERROR:
        # A backend's own error, passed on because no other backend had an answer.
        return "error"
    return "warning" if len(outcome.attempts) > 1 or outcome.fallback_model is not None else "info"
