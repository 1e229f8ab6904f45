"""The totals of each backend and each model since the start (``/v1/stats``)."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NotRequired, TypedDict, cast

import msgspec

from nexus.admin.openapi.operation import DescribedRoute, Operation
from nexus.admin.page import json_page, with_headers
from nexus.admin.parts import Asking
from nexus.admin.reports import Report, merge_reports, reports_of
from nexus.admin.workers import ONLY, AnsweredWorkers, Workers
from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.outcome import Result
from nexus.domain.routes import Page, PageRequest
from nexus.observability.metrics.counters import RequestFigures
from nexus.observability.metrics.exchanges import ExchangeMetrics
from nexus.observability.metrics.totals import BackendTotals, ModelTotals, Totals, merge, totals_of
from nexus.proxy.exchange.context import DataPlane
from nexus.proxy.waiting.request_queue import RequestQueue
from nexus.workers.peers import Peers

TOTALS: Final = "page.totals"


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
    workers: AnsweredWorkers


class Now(msgspec.Struct, frozen=True, array_like=True):
    """The part of one worker besides its totals."""

    queue: QueueFacts
    pending: dict[str, int]
    """Requests under way at each backend, by its id."""
    uptime_s: float
    reports: bytes
    """JSON of the reports of stages, which hold any types."""


class StatsPage:
    """The page, and its part for other workers.

    :param peers: the other workers; None: there are none.
    """

    def __init__(  # noqa: PLR0913 - all that the page shows
        self,
        snapshot: Callable[[], FleetSnapshot],
        totals: Asking[None, Totals],
        plane: DataPlane,
        uptime_s: Callable[[], float],
        workers: Callable[[], Workers],
        peers: Peers | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._totals = totals
        self._plane = plane
        self._uptime_s = uptime_s
        self._workers = workers
        self._now = Asking(peers, "page.stats", type(None), Now, self._part)
        self._is_alone = peers is None

    async def __call__(self, _: PageRequest) -> Page:
        """Answer ``/v1/stats``."""
        wanted = self._workers()
        if self._is_alone:
            totals = (await self._totals(None)).own
            reports = reports_of(self._plane.settings.router.pipeline.stages)
            answered = AnsweredWorkers(wanted.wanted, wanted.ready, 1, ())
            queue = self._queue()
            return stats(self._snapshot(), totals, queue, reports, uptime_s=self._uptime_s(), workers=answered)
        counted, now = await asyncio.gather(self._totals(None), self._now(None))
        answered = AnsweredWorkers(wanted.wanted, wanted.ready, len(now.present), now.silent)
        page = stats(
            self._snapshot(),
            merge((*counted.present, *counted.past)),
            merge_queues([each.queue for each in now.present]),
            merge_reports({worker: _decode_reports(each.reports) for worker, each in now.by_worker.items()}),
            uptime_s=max(each.uptime_s for each in now.present),
            workers=answered,
            pending=sum((Counter(each.pending) for each in now.present), Counter()),
        )
        return with_headers(page, now.headers)

    def route(self) -> DescribedRoute:
        """Return ``/v1/stats``."""
        operation = Operation(summary="What each backend and each model has done since the start", answers=(Stats,))
        return DescribedRoute(path="/v1/stats", respond=self, operation=operation)

    def _part(self, _: None) -> Now:
        reports = reports_of(self._plane.settings.router.pipeline.stages)
        pending = {backend.id: backend.load.in_flight for backend in self._snapshot().backends}
        return Now(self._queue(), pending, self._uptime_s(), msgspec.json.encode(reports))

    def _queue(self) -> QueueFacts:
        return queue_facts(self._plane.queue, is_enabled=self._plane.settings.config.queue.enabled)


_decode_reports: Final = msgspec.json.Decoder(dict[str, Report]).decode


def totals_question(metrics: ExchangeMetrics, peers: Peers | None) -> Asking[None, Totals]:
    """Return what asks all workers for their totals, those of *metrics* among them."""
    return Asking(peers, TOTALS, type(None), Totals, lambda _: totals_of(metrics), is_kept=True)


def queue_facts(line: "RequestQueue[Any]", *, is_enabled: bool) -> QueueFacts:
    """Return the figures of *line*."""
    counts = line.counts
    return QueueFacts(is_enabled, len(line), line.max_size, counts.enqueued, counts.drained, counts.timed_out)


def merge_queues(queues: Sequence[QueueFacts]) -> QueueFacts:
    """Return the figures of the queues of all workers together."""
    numbers = ("depth", "max_size", "enqueued", "drained", "timed_out")
    return QueueFacts(queues[0].enabled, *(sum(getattr(each, number) for each in queues) for number in numbers))


def stats(  # noqa: PLR0913 - all that the page shows
    snapshot: FleetSnapshot,
    totals: Totals,
    queue: QueueFacts,
    reports: Mapping[str, Report],
    *,
    uptime_s: float,
    workers: AnsweredWorkers = ONLY,
    pending: Mapping[str, int] | None = None,
) -> Page:
    """Answer ``/v1/stats``.

    :param reports: the reports of stages by stage name; each becomes a key of the body.
    :param pending: requests under way at each backend, by its id; None: those of this process.
    """
    if pending is None:
        pending = {backend.id: backend.load.in_flight for backend in snapshot.backends}
    unused = BackendTotals()
    body: Stats = {
        "uptime_seconds": int(uptime_s),
        "requests": request_facts(totals.all),
        "backends": [
            _backend(backend, totals.backends.get(backend.name, unused), reports, pending.get(backend.id, 0))
            for backend in sorted(snapshot.backends, key=lambda backend: backend.id)
        ],
        "models": _models(snapshot, totals.models),
        "queue": queue,
        "workers": workers,
    }
    sections = {name: report.section for name, report in reports.items() if report.section}
    return json_page({**sections, **body})


def request_facts(tally: RequestFigures) -> RequestFacts:
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


def _results(tally: RequestFigures) -> Mapping[Result, int]:
    return {**_NO_RESULTS, **tally.results}


_NO_RESULTS: Final = dict.fromkeys(Result, 0)


def _backend(backend: Backend, figures: BackendTotals, reports: Mapping[str, Report], pending: int) -> BackendFacts:
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
        "failed_attempts": figures.failed_attempts,
        "average_latency_ms": _mean_ms(tally.duration_s, tally.requests),
        "pending": pending,
    }
    if tally.first_contents:
        facts["avg_ttft_ms"] = _mean_ms(tally.first_content_s, tally.first_contents)
    added = {
        name: value for report in reports.values() for name, value in report.backends.get(backend.name, {}).items()
    }
    # A plugin may replace one of our columns, because it knows better.
    return cast("BackendFacts", {**facts, **added})


def _models(snapshot: FleetSnapshot, models: Mapping[str, ModelTotals]) -> list[ModelFacts]:
    """Return a row for each model that the fleet has or clients asked for, most requested first."""
    unused = ModelTotals()
    rows = [_model(name, models.get(name, unused)) for name in snapshot.models]
    known = frozenset(snapshot.models)
    rows += [_model(name, model) for name, model in models.items() if name not in known and model.tally.statuses]
    return sorted(sorted(rows, key=itemgetter("name")), key=itemgetter("requests"), reverse=True)


def _model(name: str, figures: ModelTotals) -> ModelFacts:
    tally = figures.tally
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
        "tokens_prompt": figures.prompt_tokens,
        "tokens_completion": figures.completion_tokens,
        "tokens_estimated": figures.estimated_tokens,
    }


def _mean_ms(total_s: float, count: int) -> float:
    """Return the mean in milliseconds; 0.0 when *count* is zero."""
    return round(total_s / count * 1000, 1) if count else 0.0
