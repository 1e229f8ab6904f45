"""What is written down of one exchange while it runs, and its one line in the access log."""

import logging
import time
from collections.abc import Mapping
from time import monotonic
from typing import Final

import msgspec
import structlog

from nexus.domain.outcome import AttemptOutcome, Ending, ExchangeOutcome, Phase
from nexus.domain.request import Endpoint, Requirements, TokenUsage
from nexus.observability.log_rendering import LONGEST_TEXT
from nexus.observability.logs import LEVELS, Level, channel, write_line
from nexus.observability.tracing import Trace
from nexus.routing.decision import Reserved

LOGGER: Final = "nexus.proxy"

log = structlog.get_logger(LOGGER)
_channel = channel(LOGGER)

_WHO: Final = {
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
"""First letter of the termination code: who ended it. C and c the client, S and s the backend, P the proxy by its
rules, K the proxy by its shutdown, I the proxy by a defect, - nobody before its time."""

_WHERE: Final[dict[Phase, str]] = {
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
"""How loud the access line is: what a client does to itself is no warning, and an error is what nobody could answer."""


class Record:
    """The facts of one exchange, gathered as it goes."""

    __slots__ = (
        "_backend_type",
        "_code",
        "_endpoint",
        "_error_message",
        "_fallback_model",
        "_first_byte_s",
        "_phases",
        "_requirements",
        "_resolved_model",
        "_route_reason",
        "_status",
        "began_at",
        "bytes_in",
        "bytes_out",
        "cost_usd",
        "decision_line",
        "ending",
        "has_answered",
        "prompt_preview",
        "received_unix_s",
        "request_id",
        "trace",
    )

    def __init__(self, request_id: str, endpoint: Endpoint) -> None:
        self.request_id = request_id
        self.began_at = now = monotonic()
        self.received_unix_s = time.time()  # noqa: TID251 - an instant for people and policies, not a duration
        self.bytes_in = 0
        self.bytes_out = 0
        self.decision_line = b""
        """The line for the answer's head that says where the decision can be read; empty unless the client wants it."""
        self.has_answered = False
        self.cost_usd: float | None = None
        self.ending = Ending.NEXUS_FAILED
        self.prompt_preview: str | None = None
        """How the prompt begins; None unless the operator wants it in the log."""
        self.trace: Trace | None = None
        """None unless exchanges are traced."""
        self._backend_type = "unknown"
        self._status = 0
        self._code: str | None = None
        self._error_message: str | None = None
        self._endpoint = endpoint
        self._requirements: Requirements | None = None
        self._resolved_model: str | None = None
        self._fallback_model: str | None = None
        self._route_reason: str | None = None
        self._first_byte_s: float | None = None
        self._phases: list[tuple[Phase, float]] = [("receive", now)]

    @property
    def route_reason(self) -> str:
        return self._route_reason or "none"

    @property
    def fallback_model(self) -> str | None:
        return self._fallback_model

    @property
    def phase(self) -> Phase:
        return self._phases[-1][0]

    def enter(self, phase: Phase) -> None:
        self._phases.append((phase, monotonic()))

    @property
    def phases(self) -> list[tuple[Phase, float]]:
        """Each visit to a phase, and when it began, by the monotonic clock."""
        return self._phases

    def understood(self, requirements: Requirements) -> None:
        self._requirements = requirements
        if _channel.threshold <= logging.DEBUG:
            # Asked first: to collect what is said costs every request more than to see that nobody hears.
            log.debug(
                "exchange_begun",
                request_id=self.request_id,
                endpoint=self._endpoint.name,
                model=requirements.model,
                stream=requirements.is_stream,
            )

    def routed(self, reserved: Reserved) -> None:
        self._backend_type = "local" if reserved.backend.kind.is_local else "cloud"
        self._resolved_model = reserved.resolved_model
        self._fallback_model = reserved.fallback_model
        self._route_reason = reserved.route_reason

    def answered(self, status: int, begun_at: float | None) -> None:
        """Note that the answer has begun to go out."""
        self.has_answered = True
        self._status = status
        self.begun(begun_at)

    def begun(self, at: float | None) -> None:
        """Note when its first content came; None: it has not come yet, though what announces it may have gone out."""
        self._first_byte_s = None if at is None else at - self.began_at

    def ended(self, ending: Ending, status: int, code: str | None = None, message: str | None = None) -> None:
        """Note how it ended; *status* counts unless another has been sent before.

        :param message: what the client is told with *code*.
        """
        self.ending = ending
        self._code = code
        self._error_message = message
        if not self.has_answered:
            self._status = status

    def cost(self, usd: float | None) -> None:
        """Add what one attempt has cost; None: nobody knows."""
        if usd is not None:
            self.cost_usd = usd + (self.cost_usd or 0.0)

    def crashed(self, exc: Exception) -> None:
        """Write down a defect of ours."""
        log.error("exchange_crashed", request_id=self.request_id, endpoint=self._endpoint.name, exc_info=exc)

    def finish(self, attempts: tuple[AttemptOutcome, ...]) -> ExchangeOutcome:
        """Return the outcome, and write the access line."""
        now = monotonic()
        phase = self.phase
        spent_ms = self._spent_ms(now)
        requirements = self._requirements
        last = attempts[-1] if attempts else None
        is_whole = self.ending is Ending.FINISHED
        outcome = ExchangeOutcome(
            request_id=self.request_id,
            endpoint=self._endpoint.name,
            protocol=self._endpoint.protocol,
            model=requirements.model if requirements is not None else None,
            resolved_model=self._resolved_model,
            is_stream=requirements is not None and requirements.is_stream,
            ending=self.ending,
            status=self._status,
            code=self._code,
            error_message=self._error_message,
            phase=phase,
            termination="--" if is_whole else _WHO[self.ending] + _WHERE[phase],
            route_reason=self._route_reason,
            fallback_model=self._fallback_model,
            attempts=attempts,
            received_at=self.received_unix_s,
            duration_s=now - self.began_at,
            queued_s=spent_ms.get("queue", 0.0) / 1000,
            first_byte_s=self._first_byte_s,
            usage=last.usage if last is not None else None,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            cost_usd=self.cost_usd,
        )
        self._write_line(outcome, spent_ms)
        return outcome

    def _spent_ms(self, now: float) -> dict[str, float]:
        """Return the milliseconds that each phase took, all its visits together."""
        spent_ms: dict[str, float] = {}
        before, since = self._phases[0]
        for phase, at in (*self._phases[1:], ("settle", now)):
            ms = _ms(at - since)
            spent_ms[before] = round(spent_ms[before] + ms, 3) if before in spent_ms else ms
            before, since = phase, at
        return spent_ms

    def _write_line(self, outcome: ExchangeOutcome, spent_ms: dict[str, float]) -> None:
        level = _level_of(outcome)
        if _channel.threshold > LEVELS[level]:
            return
        usage: TokenUsage | None = outcome.usage
        attempts = outcome.attempts
        write_line(
            LOGGER,
            level,
            "exchange_finished",
            AccessLine(
                outcome.request_id,
                outcome.endpoint,
                outcome.model and _short(outcome.model),
                outcome.fallback_model and _short(outcome.fallback_model),
                attempts[-1].backend if attempts else "none",
                self._backend_type,
                "success" if outcome.ending is Ending.FINISHED and outcome.status < FIRST_ERROR else "error",
                outcome.status,
                outcome.code,
                outcome.error_message and _short(outcome.error_message),
                outcome.ending,
                outcome.termination,
                outcome.is_stream,
                outcome.route_reason,
                len(attempts),
                max(0, len(attempts) - 1),
                [attempt.backend for attempt in attempts],
                _ms(outcome.duration_s),
                None if outcome.first_byte_s is None else _ms(outcome.first_byte_s),
                spent_ms,
                None if usage is None else usage.prompt_tokens,
                None if usage is None else usage.completion_tokens,
                None if usage is None else usage.total_tokens,
                outcome.cost_usd,
                outcome.bytes_in,
                outcome.bytes_out,
                _failed(attempts),
                self.prompt_preview,
                None if self.trace is None else self.trace.trace_id,
            ),
        )


class FailedAttempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong at one of the backends that were asked."""

    backend: str
    fault: str
    took_ms: float
    status: int | None = None


class AccessLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """The one line that each request has in the log; a Struct, because it is encoded for every one of them."""

    request_id: str
    endpoint: str
    model: str | None
    actual_model: str | None
    backend: str
    backend_type: str
    status: str
    status_code: int
    code: str | None
    error_message: str | None
    ending: str
    termination: str
    stream: bool
    route_reason: str | None
    attempts: int
    retry_count: int
    fallback_chain: list[str]
    latency_ms: float
    first_byte_ms: float | None
    phases_ms: dict[str, float]
    tokens_prompt: int | None
    tokens_completion: int | None
    tokens_total: int | None
    cost_usd: float | None
    bytes_in: int
    bytes_out: int
    failed_attempts: tuple[FailedAttempt, ...] = ()
    """Only when there were any; so are those below."""
    prompt_preview: str | None = None
    trace_id: str | None = None


def _level_of(outcome: ExchangeOutcome) -> Level:
    level = _LEVEL[outcome.ending]
    if level != "info":
        return level
    if outcome.ending is Ending.FINISHED and outcome.status >= FIRST_SERVER_ERROR:
        # A backend's own words, passed on because nobody had better ones.
        return "error"
    return "warning" if len(outcome.attempts) > 1 or outcome.fallback_model is not None else "info"


FIRST_ERROR: Final = 400
FIRST_SERVER_ERROR: Final = 500


def _failed(attempts: tuple[AttemptOutcome, ...]) -> tuple[FailedAttempt, ...]:
    if len(attempts) == 1 and attempts[0].fault is None:
        return ()
    return tuple(
        FailedAttempt(attempt.backend, attempt.fault, _ms(attempt.duration_s), attempt.status)
        for attempt in attempts
        if attempt.fault is not None
    )


def _ms(seconds: float) -> float:
    """Return milliseconds to the microsecond; quicker than round(), and every line has several."""
    return int(seconds * 1_000_000) / 1000


def _short(text: str) -> str:
    """Return *text*, the name of a model or a message, as a line has room for."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
