"""The access log: one line for each request, made of its outcome."""

from collections.abc import Sequence

import msgspec

from nexus.domain.outcome import AttemptOutcome, ExchangeOutcome, Phase, Result
from nexus.observability.logging.rendering import MAX_TEXT


class FailedAttempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an attempt at one of the backends failed."""

    backend: str
    fault: str
    took_ms: float
    status: int | None = None


class AccessLine(msgspec.Struct, frozen=True, omit_defaults=True):
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
    """Left out when empty, like the fields below."""
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
        prompt, completion, total, is_estimated = None, None, None, False
    else:
        prompt, completion, is_estimated = usage.prompt_tokens, usage.completion_tokens, usage.is_estimated
        total = prompt + completion
    result = outcome.result
    return AccessLine(
        outcome.request_id,
        outcome.endpoint,
        model if model is None or len(model) <= MAX_TEXT else _short(model),
        outcome.fallback_model and _short(outcome.fallback_model),
        attempts[-1].backend if count else "none",
        backend_type,
        "success" if result is Result.FINISHED else "error",
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
        int(outcome.duration_s * 1e6) / 1000,
        None if first_byte_s is None else int(first_byte_s * 1e6) / 1000,
        _spent_ms(phases),
        prompt,
        completion,
        total,
        outcome.cost_usd,
        outcome.bytes_in,
        outcome.bytes_out,
        () if count == 1 and attempts[0].fault is None else _failed(attempts),
        is_estimated,
        prompt_preview,
        trace_id,
        outcome.client_request_id,
        outcome.method,
        outcome.rejected_by,
        outcome.rejected_because and _short(outcome.rejected_because),
        outcome.translated,
        outcome.untranslated,
    )


def _spent_ms(phases: Sequence[tuple[Phase, float]]) -> dict[str, float]:
    """Return the milliseconds, to the microsecond, that each phase took, all its visits together."""
    spent_ms: dict[str, float] = {}
    before, since = phases[0]
    for phase, at in phases[1:]:
        ms = int((at - since) * 1e6) / 1000
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
