"""Checks that a proxy releases all resources, and reports each exchange exactly once."""

import asyncio
import gc
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from nexus.app.running.nexus import Nexus
from nexus.domain.outcome import AttemptOutcome, ExchangeOutcome
from nexus.proxy.exchange.context import Settings
from nexus.testing.waiting import eventually
from tests.support.raw_client import RawClient
from tests.support.scripted import ScriptedBackend

WITHIN_S: Final = 2.0
DEFECTS: Final = frozenset({"exchange_crashed", "request_crashed", "task_failed", "hold_failed", "hold_not_settled"})
"""Log events that mean a bug in Nexus."""

LogLines = Sequence[Mapping[str, Any]]


class Books:
    """Records outcomes, tasks and open files of an idle proxy; :meth:`balance` compares them at the end."""

    def __init__(self, nexus: Nexus, log: LogLines) -> None:
        """:param log: the entries of ``structlog.testing.capture_logs``."""
        self.outcomes: list[ExchangeOutcome] = []
        self.reported: list[AttemptOutcome] = []
        self._nexus = nexus
        self._log = log
        self._loop_errors: list[Mapping[str, Any]] = []
        self._listen()
        gc.collect()
        self._tasks = asyncio.all_tasks()
        self._open_files = _open_files()

    def _listen(self) -> None:
        nexus, plane, fleet = self._nexus, self._nexus.plane, self._nexus.fleet
        build_settings = nexus._settings
        # Also those of a reload, from which exchanges begin at once.
        nexus._settings = lambda blueprint: self._observed(build_settings(blueprint))  # type: ignore[method-assign]
        plane.settings = self._observed(plane.settings)
        report = fleet.report

        def record(backend_id: str, outcome: AttemptOutcome, *, retry_after_s: float | None = None) -> None:
            self.reported.append(outcome)
            report(backend_id, outcome, retry_after_s=retry_after_s)

        fleet.report = record  # type: ignore[method-assign]
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self._loop_errors.append(context))

    def _observed(self, settings: Settings) -> Settings:
        return msgspec.structs.replace(settings, observers=(*settings.observers, self.outcomes.append))

    def lines(self, event: str = "exchange_finished") -> LogLines:
        """Return the log lines of one event."""
        return [line for line in self._log if line["event"] == event]

    async def outcome(self) -> ExchangeOutcome:
        """Wait for the only exchange, and return its outcome."""
        await eventually(lambda: self.outcomes)
        (outcome,) = self.outcomes
        return outcome

    async def balance(self, *backends: object, is_stopped: bool = False) -> None:
        """Raise AssertionError unless everything was released and everything was reported once.

        Clients must have disconnected. Idle pooled connections are closed: any other open one is a leak.

        :param is_stopped: whether the proxy was stopped; otherwise it must still respond.
        """
        await wait_until_nothing_is_held(self._nexus)
        self._check_reports()
        if not is_stopped:
            await self._check_health()
        assert self._nexus.plane.event_room.used_bytes == 0, "bytes of events are still counted"
        self._nexus.plane.upstreams.close()
        scripted = [backend for backend in backends if isinstance(backend, ScriptedBackend)]
        await eventually(
            lambda: not any(b.open_connections for b in scripted), lambda: str([b.attempts for b in scripted])
        )
        await eventually(lambda: not self._new_tasks(), lambda: f"tasks: {self._new_tasks()}")
        await eventually(lambda: _open_files() <= self._open_files, lambda: f"open: {_open_files()}")
        gc.collect()
        assert self._loop_errors == [], self._loop_errors

    def _check_reports(self) -> None:
        logged = Counter(line["request_id"] for line in self.lines())
        assert set(logged.values()) <= {1}, "an exchange has more than one access line"
        assert logged == Counter(outcome.request_id for outcome in self.outcomes), "lines and outcomes differ"
        attempts = [attempt for outcome in self.outcomes for attempt in outcome.attempts]
        unused = [attempt for attempt in self.reported if attempt not in attempts]
        assert len(attempts) + len(unused) == len(self.reported), "an attempt was reported twice, or never"
        assert [line for line in self._log if line["event"] in DEFECTS] == []

    async def _check_health(self) -> None:
        client = await RawClient.connect(self._nexus.port)
        client.writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reply = await client.reply()
        client.leave()
        assert reply.is_whole

    def _new_tasks(self) -> list[str]:
        """Return the names of leaked tasks; tasks that watch backends and read their load may come with
        a reload.

        By name, because a reload restarts the background tasks of plugins.
        """
        now = asyncio.all_tasks() - {asyncio.current_task()}
        before = self._tasks - {asyncio.current_task()}
        new = Counter(task.get_name() for task in now) - Counter(task.get_name() for task in before)
        return [name for name in new.elements() if not name.startswith(("watch-", "load-"))]


def what_is_held(nexus: Nexus) -> dict[str, int]:
    """Return the gauges that are zero in an idle proxy."""
    backends = nexus.fleet.snapshot.backends
    models = [figures for backend in backends for figures in backend.load.models.values()]
    return {
        "exchanges": nexus.plane.in_flight,
        "waiting": len(nexus.plane.queue),
        "slots": sum(backend.load.in_flight for backend in backends),
        "prompt tokens": sum(backend.load.prompt_tokens for backend in backends),
        "answer tokens": sum(backend.load.answer_tokens for backend in backends),
        "requests for a model": sum(figures.in_flight for figures in models),
        "probing": sum(backend.load.probing for backend in backends),
        "probing a model": sum(figures.probing for figures in models),
        "flowing": sum(figures.flowing for figures in models),
        "unanswered": sum(len(figures.first_token.waiting) + len(figures.whole.waiting) for figures in models),
    }


async def wait_until_nothing_is_held(nexus: Nexus, within_s: float = WITHIN_S) -> None:
    """Wait until every gauge is zero. Raise AssertionError on timeout."""
    await eventually(
        lambda: not any(what_is_held(nexus).values()), lambda: f"still held: {what_is_held(nexus)}", within_s
    )


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
