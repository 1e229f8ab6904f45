"""The books of a proxy: whatever happened to it, all was given back, and each exchange was told of once."""

import asyncio
import gc
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from nexus.app.running.nexus import Nexus
from nexus.domain.outcome import AttemptOutcome, ExchangeOutcome
from nexus.testing.waiting import eventually
from tests.support.raw_client import RawClient
from tests.support.scripted import ScriptedBackend

WITHIN_S: Final = 2.0
DEFECTS: Final = frozenset({"exchange_crashed", "request_crashed", "task_failed", "hold_failed", "hold_not_settled"})
"""Log events that tell of a mistake of ours."""

LogLines = Sequence[Mapping[str, Any]]


class Books:
    """Opened when nothing is under way; :meth:`balance` closes them."""

    def __init__(self, nexus: Nexus, log: LogLines) -> None:
        """:param log: what ``structlog.testing.capture_logs`` gathers."""
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
        self.listen_again()
        fleet = self._nexus.fleet
        report = fleet.report

        def write_down(backend_id: str, outcome: AttemptOutcome, *, retry_after_s: float | None = None) -> None:
            self.reported.append(outcome)
            report(backend_id, outcome, retry_after_s=retry_after_s)

        fleet.report = write_down  # type: ignore[method-assign]
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self._loop_errors.append(context))

    def listen_again(self) -> None:
        """Hear of outcomes also after a reload, which has replaced who hears of them."""
        settings = self._nexus.plane.settings
        settings.observers = (*settings.observers, self.outcomes.append)

    def lines(self, event: str = "exchange_finished") -> LogLines:
        """Return the log lines of one event."""
        return [line for line in self._log if line["event"] == event]

    async def outcome(self) -> ExchangeOutcome:
        """Return the outcome of the one exchange, once it has ended."""
        await eventually(lambda: self.outcomes)
        (outcome,) = self.outcomes
        return outcome

    async def balance(self, *backends: object, is_stopped: bool = False) -> None:
        """Raise AssertionError unless everything was given back and everything was told once.

        Clients must have left, and pools are emptied: what is open then is open for nobody.

        :param is_stopped: whether the proxy was stopped; otherwise it must still answer.
        """
        await wait_until_nothing_is_held(self._nexus)
        self._check_the_telling()
        if not is_stopped:
            await self._check_that_it_answers()
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

    def _check_the_telling(self) -> None:
        told = Counter(line["request_id"] for line in self.lines())
        assert set(told.values()) <= {1}, "an exchange has more than one access line"
        assert told == Counter(outcome.request_id for outcome in self.outcomes), "lines and outcomes differ"
        attempts = [attempt for outcome in self.outcomes for attempt in outcome.attempts]
        unused = [attempt for attempt in self.reported if attempt not in attempts]
        assert len(attempts) + len(unused) == len(self.reported), "an attempt was reported twice, or never"
        assert [line for line in self._log if line["event"] in DEFECTS] == []

    async def _check_that_it_answers(self) -> None:
        client = await RawClient.connect(self._nexus.port)
        client.writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reply = await client.reply()
        client.leave()
        assert reply.is_whole

    def _new_tasks(self) -> list[str]:
        """Return the names of tasks that nobody has a reason to run; a reload may have brought backends to watch.

        By name, because a reload also puts new background work of plugins in the place of the old.
        """
        now = asyncio.all_tasks() - {asyncio.current_task()}
        before = self._tasks - {asyncio.current_task()}
        new = Counter(task.get_name() for task in now) - Counter(task.get_name() for task in before)
        return [name for name in new.elements() if not name.startswith("watch-")]


def what_is_held(nexus: Nexus) -> dict[str, int]:
    """Return every gauge of *nexus* that must be zero when nothing is under way."""
    backends = nexus.fleet.snapshot.backends
    models = [figures for backend in backends for figures in backend.load.models.values()]
    return {
        "exchanges": nexus.plane.in_flight,
        "waiting": len(nexus.plane.line),
        "slots": sum(backend.load.in_flight for backend in backends),
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
