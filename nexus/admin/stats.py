"""The totals of each backend and each model since the start (``/v1/stats``)."""

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Final, NotRequired, TypedDict, cast

import msgspec

from nexus.admin.openapi.operation import DescribedRoute, Operation
from nexus.admin.page import json_page
from nexus.admin.reports import Report, reports_of
from nexus.admin.workers import ALONE, Workers
from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.outcome import Result
from nexus.domain.routes import Page, PageRequest
from nexus.observability.metrics.counters import BackendCounters, ModelCounters, RequestCounts, total
from nexus.observability.metrics.exchanges import ExchangeMetrics
from nexus.observability.metrics.histogram import Histogram
from nexus.proxy.exchange.context import DataPlane
from nexus.proxy.waiting.request_queue import RequestQueue


class QueueFacts(msgspec.Struct, frozen=True):
    """The state of the queue and its counters."""

    enabled: bool
    depth: int
    max_size: int
    enqueued: int
    drained: int
    timed_out: int


class RequestFacts(TypedDict):
    """How requests ended; each counts in ``total`` and in one of the other fields."""

    total: int
    success: int
    errors: int
    """The sum of the two fields below."""
    errors_4xx: int
    errors_5xx: int
    unfinished: int
    results: Mapping[Result, int]
    """The same requests by result, which says more than a status."""


class BackendFacts(TypedDict):
    """The totals of one backend; plugins add keys."""

    id: str
    name: str
    type: str
    status: str
    requests: int
    success: int
    errors_4xx: int
    errors_5xx: int
    unfinished: int
    results: Mapping[Result, int]
    attempts: int
    failed_attempts: int
    average_latency_ms: float
    pending: int
    avg_ttft_ms: NotRequired[float | None]


class ModelFacts(TypedDict):
    """The totals of one model."""

    name: str
    requests: int
    success: int
    errors_4xx: int
    errors_5xx: int
    unfinished: int
    results: Mapping[Result, int]
    average_duration_ms: float
    avg_ttft_ms: float
    tokens_prompt: int
    tokens_completion: int
    tokens_estimated: int
    """The part of both counts that is estimated, because the backend reported no usage."""


class Stats(TypedDict):
    """The body of ``/v1/stats``; each stage with a report adds a key with its name."""

    uptime_seconds: int
    requests: RequestFacts
    backends: list[BackendFacts]
    models: list[ModelFacts]
    queue: QueueFacts
    workers: Workers


def route(
    snapshot: Callable[[], FleetSnapshot],
    metrics: ExchangeMetrics,
    plane: DataPlane,
    uptime_s: Callable[[], float],
    workers: Callable[[], Workers],
) -> DescribedRoute:
    """Return ``/v1/stats``."""

    def respond(_: PageRequest) -> Page:
        settings = plane.settings
        queue = queue_facts(plane.queue, is_enabled=settings.config.queue.enabled)
        reports = reports_of(settings.router.pipeline.stages)
        return stats(snapshot(), metrics, queue, reports, uptime_s=uptime_s(), workers=workers())

    return DescribedRoute(
        path="/v1/stats",
        respond=respond,
        operation=Operation(summary="What each backend and each model has done since the start", answers=(Stats,)),
    )


def queue_facts(line: "RequestQueue[Any]", *, is_enabled: bool) -> QueueFacts:
    """Return the figures of *line*."""
    counts = line.counts
    return QueueFacts(is_enabled, len(line), line.max_size, counts.enqueued, counts.drained, counts.timed_out)


def stats(  # noqa: PLR0913 - all that the page shows
    snapshot: FleetSnapshot,
    metrics: ExchangeMetrics,
    queue: QueueFacts,
    reports: Mapping[str, Report],
    *,
    uptime_s: float,
    workers: Workers = ALONE,
) -> Page:
    """Answer ``/v1/stats``.

    :param reports: the reports of stages by stage name; each becomes a key of the body.
    """
    # Added up once: in a large fleet there are thousands of models on backends.
    by_model = {name: counters.tally for name, counters in metrics.models.items()}
    body: Stats = {
        "uptime_seconds": int(uptime_s),
        "requests": request_facts(total(by_model.values())),
        "backends": [
            _backend(backend, metrics.backends.get(backend.name) or BackendCounters(), reports)
            for backend in sorted(snapshot.backends, key=lambda backend: backend.id)
        ],
        "models": _models(snapshot, metrics.models, by_model),
        "queue": queue,
        "workers": workers,
    }
    sections = {name: report.section for name, report in reports.items() if report.section}
    return json_page({**sections, **body})


def request_facts(tally: RequestCounts) -> RequestFacts:
    """Return the totals of all requests."""
    return {
        "total": tally.requests,
        "success": tally.successes,
        "errors": tally.client_errors + tally.server_errors,
        "errors_4xx": tally.client_errors,
        "errors_5xx": tally.server_errors,
        "unfinished": tally.unfinished,
        "results": _results(tally),
    }


def _results(tally: RequestCounts) -> Mapping[Result, int]:
    return {**_NO_RESULTS, **tally.results}


_NO_RESULTS: Final = dict.fromkeys(Result, 0)


def _backend(backend: Backend, figures: BackendCounters, reports: Mapping[str, Report]) -> BackendFacts:
    tally = figures.tally
    facts: BackendFacts = {
        "id": backend.id,
        "name": backend.name,
        "type": backend.kind.name,
        "status": backend.status,
        "requests": tally.requests,
        "success": tally.successes,
        "errors_4xx": tally.client_errors,
        "errors_5xx": tally.server_errors,
        "unfinished": tally.unfinished,
        "results": _results(tally),
        "attempts": figures.attempts,
        "failed_attempts": sum(figures.failures.values()),
        "average_latency_ms": _mean_ms(tally.duration_s, tally.requests),
        "pending": backend.load.in_flight,
    }
    if tally.first_contents:
        facts["avg_ttft_ms"] = _mean_ms(tally.first_content_s, tally.first_contents)
    added = {
        name: value for report in reports.values() for name, value in report.backends.get(backend.name, {}).items()
    }
    # A plugin may replace one of our columns, because it knows better.
    return cast("BackendFacts", {**facts, **added})


def _models(
    snapshot: FleetSnapshot, models: Mapping[str, ModelCounters], tallies: Mapping[str, RequestCounts]
) -> list[ModelFacts]:
    """Return a row for each model that the fleet has or clients asked for, most requested first."""
    unused, nothing = ModelCounters(""), RequestCounts()
    rows = [_model(name, models.get(name, unused), tallies.get(name, nothing)) for name in snapshot.models]
    known = frozenset(snapshot.models)
    asked = [(name, tally) for name, tally in tallies.items() if name not in known and tally.requests]
    rows += [_model(name, models[name], tally) for name, tally in asked]
    return sorted(sorted(rows, key=itemgetter("name")), key=itemgetter("requests"), reverse=True)


def _model(name: str, figures: ModelCounters, tally: RequestCounts) -> ModelFacts:
    return {
        "name": name,
        "requests": tally.requests,
        "success": tally.successes,
        "errors_4xx": tally.client_errors,
        "errors_5xx": tally.server_errors,
        "unfinished": tally.unfinished,
        "results": _results(tally),
        "average_duration_ms": _mean_ms(tally.duration_s, tally.requests),
        "avg_ttft_ms": _mean_ms(tally.first_content_s, tally.first_contents),
        "tokens_prompt": _sum(figures.prompts) + figures.estimated.prompt_tokens,
        "tokens_completion": _sum(figures.completions) + figures.estimated.completion_tokens,
        "tokens_estimated": figures.estimated.total_tokens,
    }


def _sum(tokens: Histogram | None) -> int:
    return int(tokens.sum) if tokens is not None else 0


def _mean_ms(total_s: float, count: int) -> float:
    """Return the mean in milliseconds; 0.0 when *count* is zero."""
    return round(total_s / count * 1000, 1) if count else 0.0
