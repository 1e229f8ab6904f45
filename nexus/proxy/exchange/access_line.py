"""The access log: one line for each request, made of its outcome."""

from collections.abc import Sequence
from typing import Final

import msgspec

from nexus.domain.outcome import AttemptOutcome, ExchangeOutcome, Phase, Result
from nexus.observability.logging.rendering import MAX_TEXT

_FINISHED: Final = Result.FINISHED
"""Kept here: up to Python 3.11, each look at a member through its class takes as long as a call."""


class FailedAttempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an attempt at one of the backends failed."""

    backend: str
    fault: str
    took_ms: float
    status: int | None = None


class AccessLine(msgspec.Struct, eq=False, omit_defaults=True):
    """The fields of the line; a Struct, because one is encoded for every request."""

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
    result: str
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
    """Left out when empty, like the fields below, which are set one by one: few lines have any of them."""
    tokens_estimated: bool = False
    prompt_preview: str | None = None
    trace_id: str | None = None
    client_request_id: str | None = None
    method: str = "POST"
    rejected_by: str | None = None
    rejected_because: str | None = None
    translated: str | None = None
    untranslated: tuple[str, ...] = ()


def access_line(
    outcome: ExchangeOutcome,
    *,
    phases: Sequence[tuple[Phase, float]],
    backend_type: str,
    prompt_preview: str | None,
    trace_id: str | None,
) -> AccessLine:
    """Return the line of one exchange.

    :param phases: each visit to a phase, and when it began; the last one has no length.
    """
    # Written out instead of calling helpers: every request pays for this, and a call costs as much as its work.
    usage, attempts, model, first_byte_s = outcome.usage, outcome.attempts, outcome.model, outcome.first_byte_s
    count = len(attempts)
    if usage is None:
        prompt, completion, total = None, None, None
    else:
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        total = prompt + completion
    result = outcome.result
    # Positional, and the rare fields apart: CPython calls with more than 30 arguments twice as slowly.
    line = AccessLine(
        outcome.request_id,
        outcome.endpoint,
        model if model is None or len(model) <= MAX_TEXT else _short(model),
        outcome.fallback_model and _short(outcome.fallback_model),
        attempts[-1].backend if count else "none",
        backend_type,
        "success" if result is _FINISHED else "error",
        outcome.status,
        outcome.code,
        outcome.error_message and _short(outcome.error_message),
        outcome.ending,
        result,
        outcome.termination,
        outcome.is_stream,
        outcome.route_reason,
        count,
        count - 1 if count else 0,
        [attempts[0].backend] if count == 1 else [attempt.backend for attempt in attempts],
        outcome.duration_s * 1e6 // 1.0 / 1e3,
        None if first_byte_s is None else first_byte_s * 1e6 // 1.0 / 1e3,
        _spent_ms(phases),
        prompt,
        completion,
        total,
        outcome.cost_usd,
        outcome.bytes_in,
        outcome.bytes_out,
    )
    if count != 1 or attempts[0].fault is not None:
        line.failed_attempts = _failed(attempts)
    if usage is not None and usage.is_estimated:
        line.tokens_estimated = True
    line.prompt_preview, line.trace_id = prompt_preview, trace_id
    line.client_request_id, line.method = outcome.client_request_id, outcome.method
    if outcome.rejected_by is not None:
        line.rejected_by = outcome.rejected_by
        line.rejected_because = outcome.rejected_because and _short(outcome.rejected_because)
    if outcome.translated is not None:
        line.translated, line.untranslated = outcome.translated, outcome.untranslated
    return line


def _spent_ms(phases: Sequence[tuple[Phase, float]]) -> dict[str, float]:
    """Return the milliseconds, to the microsecond, that each phase took, all its visits together."""
    spent_ms: dict[str, float] = {}
    visits = iter(phases)
    before, since = next(visits)
    for phase, at in visits:
        ms = (at - since) * 1e6 // 1.0 / 1e3
        spent_ms[before] = round(spent_ms[before] + ms, 3) if before in spent_ms else ms
        before, since = phase, at
    return spent_ms


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
    """Return *text*, a model's name or a message, cut to the length that a line has room for."""
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
