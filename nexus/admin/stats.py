"""The figures at a glance (``/v1/stats``): what each backend and each model has done since the start of the process."""

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import msgspec

from nexus.admin.page import json_page
from nexus.admin.reports import Report
from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.routes import Page
from nexus.observability.figures import BackendFigures, ModelFigures, Tally
from nexus.observability.metrics import ExchangeMetrics
from nexus.proxy.queue import WaitingLine

Facts = dict[str, Any]


class QueueFacts(msgspec.Struct, frozen=True):
    """How the queue is, and what has come of it."""

    enabled: bool
    depth: int
    max_size: int
    enqueued: int
    drained: int
    timed_out: int


def queue_facts(line: "WaitingLine[Any]", *, is_enabled: bool) -> QueueFacts:
    """Return the facts of *line*."""
    counts = line.counts
    return QueueFacts(is_enabled, len(line), line.max_size, counts.enqueued, counts.drained, counts.timed_out)


def stats(
    snapshot: FleetSnapshot,
    metrics: ExchangeMetrics,
    queue: QueueFacts,
    reports: Mapping[str, Report],
    *,
    uptime_s: float,
) -> Page:
    """Answer ``/v1/stats``.

    :param reports: what stages say, by their names, which become keys beside ours.
    """
    body = {
        **{name: report.section for name, report in reports.items() if report.section},
        "uptime_seconds": int(uptime_s),
        "requests": request_facts(metrics.all),
        "backends": [
            _backend(backend, metrics.backends.get(backend.name) or BackendFigures(), reports)
            for backend in sorted(snapshot.backends, key=lambda backend: backend.id)
        ],
        "models": _models(snapshot, metrics.models),
        "queue": queue,
    }
    return json_page(body)


def request_facts(tally: Tally) -> Facts:
    """Return how requests ended; every one is in ``total`` and in one of the others."""
    return {
        "total": tally.requests,
        "success": tally.successes,
        "errors": tally.client_errors + tally.server_errors,
        "errors_4xx": tally.client_errors,
        "errors_5xx": tally.server_errors,
        "unfinished": tally.unfinished,
    }


def _backend(backend: Backend, figures: BackendFigures, reports: Mapping[str, Report]) -> Facts:
    tally = figures.tally
    facts = {
        "id": backend.id,
        "name": backend.name,
        "type": backend.kind.name,
        "status": backend.status,
        "requests": tally.requests,
        "success": tally.successes,
        "errors_4xx": tally.client_errors,
        "errors_5xx": tally.server_errors,
        "unfinished": tally.unfinished,
        "attempts": figures.attempts,
        "failed_attempts": sum(figures.failures.values()),
        "average_latency_ms": _mean_ms(tally.duration_s, tally.requests),
        "pending": backend.load.in_flight,
    }
    if tally.first_contents:
        facts["avg_ttft_ms"] = _mean_ms(tally.first_content_s, tally.first_contents)
    for report in reports.values():
        facts.update(report.backends.get(backend.name, {}))
    return facts


def _models(snapshot: FleetSnapshot, models: Mapping[str, ModelFigures]) -> list[Facts]:
    """Return a row for each model that the fleet has or that was asked for, the most wanted first."""
    unused = ModelFigures("")
    rows = [_model(name, models.get(name, unused)) for name in snapshot.models]
    known = frozenset(snapshot.models)
    rows += [_model(name, figures) for name, figures in models.items() if name not in known and figures.tally.requests]
    return sorted(sorted(rows, key=itemgetter("name")), key=itemgetter("requests"), reverse=True)


def _model(name: str, figures: ModelFigures) -> Facts:
    tally = figures.tally
    return {
        "name": name,
        "requests": tally.requests,
        "success": tally.successes,
        "errors_4xx": tally.client_errors,
        "errors_5xx": tally.server_errors,
        "unfinished": tally.unfinished,
        "average_duration_ms": _mean_ms(tally.duration_s, tally.requests),
        "avg_ttft_ms": _mean_ms(tally.first_content_s, tally.first_contents),
        "tokens_prompt": int(figures.prompts.sum) if figures.prompts is not None else 0,
        "tokens_completion": int(figures.completions.sum) if figures.completions is not None else 0,
    }


def _mean_ms(total_s: float, count: int) -> float:
    """Return milliseconds to a tenth, 0.0 when there is nothing to average."""
    return round(total_s / count * 1000, 1) if count else 0.0
