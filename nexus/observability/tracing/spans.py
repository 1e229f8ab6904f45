"""Makes the spans of one exchange, after OpenTelemetry's semantic conventions for HTTP and generative AI."""

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from nexus import __version__
from nexus.domain.backend import Backend
from nexus.domain.outcome import AttemptOutcome, Ending, ExchangeOutcome
from nexus.domain.request import Endpoint, TokenUsage
from nexus.observability.tracing.trace import AttemptSpan, Ended, Trace, new_span_id

Attributes = dict[str, str | int | float | bool]

OPERATIONS: Final[Mapping[str, str]] = {
    "openai.completions": "text_completion",
    "ollama.generate": "text_completion",
}
"""Operation names of endpoints for which the capability is not the name in the conventions."""

MAX_NAME: Final = 256
FIRST_ERROR: Final = 400
FIRST_SERVER_ERROR: Final = 500
_CAUSED_BY_CLIENT: Final = frozenset({Ending.CLIENT_LEFT, Ending.CLIENT_STALLED, Ending.BAD_REQUEST})
_ERROR: Final = Status(StatusCode.ERROR)
_UNSET: Final = Status(StatusCode.UNSET)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_SCOPE: Final = InstrumentationScope("nexus", __version__)
_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}


def resource_of(service_name: str | None) -> Resource:
    """Return the resource of all spans; without a *service_name*, OpenTelemetry's variables set it."""
    named = {SERVICE_NAME: service_name} if service_name is not None else {}
    resource = Resource.create({SERVICE_VERSION: __version__, **named})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return resource.merge(Resource({SERVICE_NAME: "nexus-proxy"}))
    return resource


class SpanFields(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of one span, with times of the monotonic clock."""

    name: str
    span_id: str
    began_at: float
    ended_at: float
    kind: SpanKind = SpanKind.INTERNAL
    attributes: Attributes = {}
    is_failed: bool = False


class SpanMaker:
    """Makes finished spans after the exchange, because the SDK's tracer would make them at the cost of the request."""

    def __init__(self, resource: Resource, endpoints: Mapping[str, Endpoint]) -> None:
        """:param endpoints: by name."""
        self._resource = resource
        self._endpoints = endpoints

    def spans_of(self, ended: Ended) -> list[ReadableSpan]:
        """Return the span of the exchange, then one per attempt and one per visit to a phase."""
        trace, outcome = ended.trace, ended.outcome
        endpoint = self._endpoints[outcome.endpoint]
        operation = OPERATIONS.get(endpoint.name, endpoint.capability)
        clock = _Clock(ended.phases[0][1], outcome.received_at)
        state = TraceState.from_header([trace.state.decode()]) if trace.state else None
        own = _context(trace, trace.span_id, state)
        remote_parent = _context(trace, trace.parent_id, state, is_remote=True) if trace.parent_id is not None else None
        children = [*_attempt_spans(trace, outcome, operation), *_phase_spans(ended)]
        return [
            self._span(_exchange_span(ended, endpoint, operation), own, remote_parent, clock),
            *(self._span(fields, _context(trace, fields.span_id, state), own, clock) for fields in children),
        ]

    def _span(
        self, fields: SpanFields, context: SpanContext, parent: SpanContext | None, clock: "_Clock"
    ) -> ReadableSpan:
        return ReadableSpan(
            name=fields.name[:MAX_NAME],
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=fields.attributes,
            kind=fields.kind,
            status=_ERROR if fields.is_failed else _UNSET,
            start_time=clock.unix_ns(fields.began_at),
            end_time=clock.unix_ns(fields.ended_at),
            instrumentation_scope=_SCOPE,
        )


class _Clock(msgspec.Struct, frozen=True):
    """Converts times of the monotonic clock to Unix time, from one instant that is known in both."""

    monotonic_s: float
    unix_s: float

    def unix_ns(self, at: float) -> int:
        return round(self.unix_s * 1e9) + round((at - self.monotonic_s) * 1e9)


def _context(trace: Trace, span_id: str, state: TraceState | None, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(int(trace.trace_id, 16), int(span_id, 16), is_remote, _SAMPLED, state)


def _exchange_span(ended: Ended, endpoint: Endpoint, operation: str) -> SpanFields:
    trace, outcome = ended.trace, ended.outcome
    error = _error_type(outcome)
    answered_by = (outcome.attempts[-1].model or None) if outcome.attempts and error is None else None
    attributes = _without_none(
        {
            "http.request.method": outcome.method,
            "http.route": endpoint.path,
            "http.request.body.size": outcome.bytes_in,
            "http.response.status_code": outcome.status,
            "http.response.body.size": outcome.bytes_out,
            "gen_ai.request.model": outcome.model,
            "gen_ai.response.model": answered_by,
            "nexus.request_id": outcome.request_id,
            "nexus.client_request_id": outcome.client_request_id,
            "nexus.endpoint": endpoint.name,
            "nexus.ending": outcome.ending.value,
            "nexus.result": outcome.result.value,
            "nexus.rejected_by": outcome.rejected_by,
            "nexus.termination": outcome.termination,
            "nexus.route_reason": outcome.route_reason,
            "nexus.fallback_model": outcome.fallback_model,
            "nexus.backend": outcome.backend,
            "nexus.cost_usd": outcome.cost_usd,
            "error.type": error,
            **_generation(operation, outcome.usage, is_stream=outcome.is_stream, first_s=outcome.first_byte_s),
            **(_server_attributes(trace.attempts[-1].backend) if trace.attempts else {}),
        }
    )
    return SpanFields(
        name=f"{operation} {outcome.model}" if outcome.model else operation,
        span_id=trace.span_id,
        began_at=ended.phases[0][1],
        ended_at=ended.ended_at,
        kind=SpanKind.SERVER,
        attributes=attributes,
        # In the conventions, a server's span is no error when the client caused it.
        is_failed=error is not None
        and outcome.ending not in _CAUSED_BY_CLIENT
        and not FIRST_ERROR <= outcome.status < FIRST_SERVER_ERROR,
    )


def _attempt_spans(trace: Trace, outcome: ExchangeOutcome, operation: str) -> Iterator[SpanFields]:
    for number, (begun, attempt) in enumerate(zip(trace.attempts, outcome.attempts, strict=True)):
        yield _attempt_span(begun, attempt, operation, number, outcome.method)


def _attempt_span(begun: AttemptSpan, attempt: AttemptOutcome, operation: str, number: int, method: str) -> SpanFields:
    status = attempt.status or 0
    error = attempt.fault or (str(status) if status >= FIRST_ERROR else None)
    if error is None and attempt.ending is not Ending.FINISHED:
        error = attempt.ending.value
    attributes = _without_none(
        {
            "http.request.method": method,
            "http.request.resend_count": number or None,
            "http.response.status_code": attempt.status,
            "gen_ai.request.model": attempt.model or None,
            "gen_ai.response.model": (attempt.model or None) if error is None else None,
            "nexus.backend": attempt.backend,
            "error.type": error,
            **_generation(operation, attempt.usage, is_stream=attempt.is_stream, first_s=attempt.first_byte_s),
            **_server_attributes(begun.backend),
        }
    )
    return SpanFields(
        name=f"{operation} {attempt.model}".rstrip(),
        span_id=begun.span_id,
        began_at=begun.started_at,
        ended_at=begun.started_at + attempt.duration_s,
        kind=SpanKind.CLIENT,
        attributes=attributes,
        is_failed=error is not None and attempt.ending not in _CAUSED_BY_CLIENT,
    )


def _phase_spans(ended: Ended) -> Iterator[SpanFields]:
    for visit in ended.visits:
        yield SpanFields(name=visit.phase, span_id=new_span_id(), began_at=visit.began_at, ended_at=visit.ended_at)


def _generation(
    operation: str, usage: TokenUsage | None, *, is_stream: bool, first_s: float | None
) -> dict[str, str | int | float | bool | None]:
    if usage is not None and usage.is_estimated:
        usage = None
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.request.stream": is_stream or None,
        "gen_ai.response.time_to_first_chunk": first_s if is_stream else None,
        "gen_ai.usage.input_tokens": usage.prompt_tokens if usage is not None else None,
        "gen_ai.usage.output_tokens": usage.completion_tokens if usage is not None else None,
    }


def _server_attributes(backend: Backend) -> Attributes:
    parts = urlsplit(backend.url)
    return {
        "gen_ai.provider.name": backend.kind.name,
        "server.address": parts.hostname or "",
        "server.port": parts.port or _PORTS.get(parts.scheme, 0),
    }


def _error_type(outcome: ExchangeOutcome) -> str | None:
    """Return the ``error.type`` of the conventions, None for a complete and successful answer."""
    if outcome.code is not None:
        return outcome.code
    if outcome.ending is not Ending.FINISHED:
        return outcome.ending.value
    return str(outcome.status) if outcome.status >= FIRST_ERROR else None


def _without_none(attributes: Mapping[str, str | int | float | bool | None]) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}
