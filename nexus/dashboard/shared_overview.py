"""Everything that the dashboard shows when several workers serve: the figures of all of them."""

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nexus.admin.backends.loads import LoadPart, load_parts, mean_latency_ms, parts_of, with_loads
from nexus.admin.backends.view import BackendView
from nexus.admin.history import HistoryEntry
from nexus.admin.history import merge as merge_history
from nexus.admin.parts import Asking, Parts
from nexus.admin.stats import QueueFacts, merge_queues, request_facts
from nexus.dashboard.overview import MAX_HISTORY, TAIL_STEPS, Overview, Sources, unix_now
from nexus.domain.backend import Backend
from nexus.observability.metrics.recent_rejections import Rejections, merge_rejections
from nexus.observability.metrics.timeline import HOUR_STEPS, Figures, Hour, RecentSums, Steps, figures_of
from nexus.observability.metrics.totals import Totals, merge
from nexus.workers.peers import Peers

MAX_NEW: Final = 100
"""Requests of one worker that are sent one by one each second."""
MAX_PROCESSES: Final = 256
"""Workers whose requests are known, those that have ended among them."""
SPARE_STEPS: Final = 1
"""Another worker may have begun the next step already."""


class Question(msgspec.Struct, frozen=True, array_like=True):
    """What a part is to hold."""

    is_whole: bool
    seen: dict[int, int]
    """By the id of a process, the number of its newest request that is known."""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """What one worker shows."""

    process: int
    uptime_seconds: int
    in_flight: int
    queue: QueueFacts
    rejections: list[Rejections]
    loads: dict[str, LoadPart]
    recent: dict[str, RecentSums]
    steps: Steps
    newest: int
    """The number of its newest request."""
    requests: list[HistoryEntry]
    """Newest first: of the whole overview, the last ones; else those that are not known."""


class SharedOverview(Overview):
    """Asks all workers for their parts at each refresh; what it returns is as old as the last one."""

    def __init__(self, sources: Sources, peers: Peers, totals: Asking[None, Totals]) -> None:
        super().__init__(sources)
        self._totals = totals
        self._asking = Asking(peers, "page.overview", Question, Part, self._part)
        self._parts: Parts[Part]
        self._counted = Totals({}, {})
        self._seen: dict[int, int] = {}
        self._new: list[HistoryEntry] = []

    async def refresh(self, *, is_whole: bool = False, begins: bool = False) -> None:
        question = Question(is_whole, self._seen)
        parts, counted = await asyncio.gather(self._asking(question), self._totals(None))
        self._parts, self._counted = parts, merge((*counted.present, *counted.past))
        self._new = [] if is_whole else merge_history([part.requests for part in parts.present], MAX_NEW)
        if begins or not is_whole:
            # What a silent worker has finished is sent when it answers again.
            self._seen = {**self._seen, **{part.process: part.newest for part in parts.present}}
            self._seen = dict(list(self._seen.items())[-MAX_PROCESSES:])

    @property
    def headers(self) -> Mapping[str, str]:
        return self._parts.headers

    def requests_since(self, number: int, most: int) -> tuple[int, list[HistoryEntry]]:
        """Return the requests that the last refresh found, oldest first."""
        return number, self._new[:most][::-1]

    def _part(self, question: Question) -> Part:
        status = self._status()
        process, steps = os.getpid(), HOUR_STEPS if question.is_whole else TAIL_STEPS + SPARE_STEPS
        newest, _ = self._history.after(0, 0)
        since = 0 if question.is_whole else question.seen.get(process, newest)
        newest, requests = self._history.after(since, MAX_HISTORY if question.is_whole else MAX_NEW)
        return Part(
            process,
            status["uptime_seconds"],
            status["in_flight"],
            status["queue"],
            status["rejections"],
            load_parts(self._fleet.snapshot),
            self._timeline.recent(),
            self._timeline.steps(steps),
            newest,
            requests[::-1],
        )

    # what several workers have each

    def _current_status(self) -> Mapping[str, Any]:
        parts = self._parts.present
        return {
            **self._status(),
            "uptime_seconds": max(part.uptime_seconds for part in parts),
            "in_flight": sum(part.in_flight for part in parts),
            "queue": merge_queues([part.queue for part in parts]),
            "requests": request_facts(self._counted.all),
            "rejections": merge_rejections(part.rejections for part in parts),
            "workers": {"answered": len(parts), "silent": self._parts.silent},
        }

    def _view(self, backend: Backend) -> BackendView:
        return with_loads(super()._view(backend), self._loads_of(backend))

    def _measured(self, backend: Backend) -> Mapping[str, Any]:
        loads = self._loads_of(backend)
        return {
            "total_requests": sum(load.total_requests for load in loads),
            "avg_latency_ms": mean_latency_ms((load.total_requests, load.avg_latency_ms) for load in loads),
        }

    def _loads_of(self, backend: Backend) -> list[LoadPart]:
        return parts_of(backend.id, (part.loads for part in self._parts.present))

    def _figures(self, backend: str) -> Figures:
        return figures_of([part.recent[backend] for part in self._parts.present if backend in part.recent])

    def _hour(self, steps: int) -> Hour:
        return self._timeline.hour_of(unix_now(), [part.steps for part in self._parts.present], steps=steps)

    def _newest_requests(self) -> list[HistoryEntry]:
        return merge_history([part.requests for part in self._parts.present], MAX_HISTORY)
