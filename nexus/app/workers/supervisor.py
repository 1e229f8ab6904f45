"""Keeps each worker running: starts it, and starts a successor when it has ended."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

import structlog

from nexus import tasks
from nexus.app.workers.balance import connections_to_close
from nexus.app.workers.child import Child
from nexus.app.workers.messages import Counts, Shed, Stop
from nexus.app.workers.restarts import FailedStarts, Restarts
from nexus.errors import ConfigError, NexusError, PluginError, StartError, StoreError

log = structlog.get_logger("nexus.app")

START_S: Final = 120.0
"""How long a worker may take until its event loop runs: it imports all plugins before."""
PING_EVERY_S: Final = 1.0
SILENT_S: Final = 3.0
"""How long the event loop of a worker may be blocked before the others get the slots that it does not use."""
HANG_S: Final = 60.0
"""How long the event loop of a worker may be blocked before it is killed; its streams have stalled as long."""
EXIT_S: Final = 5.0
"""How long a worker may take to end after its last request."""
EXIT_CODE_S: Final = 0.5
"""How long to wait for the process of a worker that has closed its channel, to learn why it ended."""
BALANCE_S: Final = 2.0

_ERRORS: Final = {error.__name__: error for error in (ConfigError, PluginError, StartError, StoreError)}
"""What a worker reports by name, so that the parent ends with the same error as one process would."""


class OnSilence(Protocol):
    """Called when a worker that serves has not answered for :data:`SILENT_S`, and when it answers again."""

    def __call__(self, child: Child, *, is_silent: bool) -> None: ...


class Supervisor:
    """Runs *count* workers until :meth:`stop`.

    :param launch: starts the worker with an index from 1; it may raise OSError.
    :param on_ready: called when a worker serves.
    :param on_silence: see there; not called when the worker ends.
    :param drain_s: returns how long a worker that is replaced may take to finish its requests.
    :param give_up: called with the reason when starts fail again and again and no worker serves.
    """

    def __init__(  # noqa: PLR0913 - what it tells the parent
        self,
        count: int,
        launch: Callable[[int], Awaitable[Child]],
        *,
        on_ready: Callable[[Child], None],
        on_silence: OnSilence,
        drain_s: Callable[[], float],
        give_up: Callable[[NexusError], None],
    ) -> None:
        self._count = count
        self._launch = launch
        self._on_ready = on_ready
        self._on_silence = on_silence
        self._drain_s = drain_s
        self._give_up = give_up
        self._children: dict[int, Child] = {}
        """The latest of each index."""
        self._silent: set[Child] = set()
        """Those that serve and have not answered for :data:`SILENT_S`."""
        self._leaving: set[Child] = set()
        """Those that are replaced, until they have ended."""
        self._succeeded: dict[int, asyncio.Event] = {}
        """By index, set when the successor of workers that leave serves, or when all stop."""
        self._failed_starts = FailedStarts()
        self._stopping = asyncio.Event()
        """Set when no worker is to be started any more."""
        self._keeping: list[asyncio.Task[None]] = []
        self._balancing: asyncio.Task[None] | None = None
        self._are_ready: asyncio.Future[None] | None = None
        """Set during the start."""

    @property
    def ready(self) -> tuple[Child, ...]:
        """The workers that serve."""
        return tuple(child for child in self._children.values() if child.is_ready)

    @property
    def counts(self) -> Counts:
        return Counts(wanted=self._count, ready=len(self.ready), unattended=self._unattended())

    def _unattended(self) -> tuple[int, ...]:
        """Return the workers at whose sockets others accept connections: none while all start or stop."""
        if self._are_ready is not None or self._stopping.is_set():
            return ()
        attending = {child.index for child in self.ready if child not in self._silent}
        return tuple(index for index in range(1, self._count + 1) if index not in attending)

    @property
    def is_alive(self) -> bool:
        """Whether a worker serves and answers, or starts."""
        return any(
            (child.is_ready and child not in self._silent) or not child.has_settled.is_set()
            for child in self._children.values()
        )

    async def start(self) -> None:
        """Start all workers, and wait until each serves.

        :raises NexusError: one reports why it cannot start, or starts fail again and again.
        """
        self._are_ready = asyncio.get_running_loop().create_future()
        self._keeping = [
            tasks.start(self._keep(index), name=f"keep worker {index}") for index in range(1, self._count + 1)
        ]
        try:
            await self._are_ready
        finally:
            self._are_ready = None
        self._balancing = tasks.keep_running(self._balance, name="balance workers")

    async def stop(self, stop: Stop) -> None:
        """Tell all workers to stop, wait until they have ended, and kill those that do not in time."""
        self._stopping.set()
        self.let_leave_at_once()
        if self._balancing is not None:
            self._balancing.cancel()
        for child in self._running():
            child.is_leaving = True
            if child.has_begun:
                child.tell("stop", stop)
            else:
                child.kill()
        patience_s = stop.lame_duck_s + stop.drain_s + EXIT_S
        await asyncio.gather(
            *(self._end(child, patience_s if child.has_served else EXIT_S) for child in self._running())
        )
        await asyncio.gather(*self._keeping, return_exceptions=True)

    def let_leave_at_once(self) -> None:
        """Let workers that leave wait for their successors no longer, as when they have an old configuration."""
        for succeeded in self._succeeded.values():
            succeeded.set()
        self._succeeded.clear()

    def start_anew(self) -> None:
        """Start workers anew that do not serve yet: they would begin to serve with an old configuration."""
        for child in self._children.values():
            if not child.has_served and not child.has_ended:
                child.is_leaving = True
                child.kill()

    def tell_all(self, topic: str, payload: object) -> None:
        """Send a message to each worker that serves."""
        for child in self.ready:
            child.tell(topic, payload)

    def _running(self) -> tuple[Child, ...]:
        return tuple(child for child in (*self._children.values(), *self._leaving) if not child.has_ended)

    async def _keep(self, index: int) -> None:
        restarts = Restarts()
        while not self._stopping.is_set():
            served_s = await self._run_once(index)
            if self._stopping.is_set():
                return
            child = self._children.get(index)
            if child is not None and child.is_leaving and not child.has_served:
                # It was started anew, as by a reload, and has not failed.
                continue
            delay_s = restarts.delay_s(served_s)
            if child is None or not child.is_leaving:
                reason = "no process can be started" if child is None else child.ending
                log.error("worker_ended", worker=index, reason=reason, restart_in_s=delay_s)
            try:
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _run_once(self, index: int) -> float:
        """Run a worker until it is gone; return how long it has served."""
        try:
            child = await self._launch(index)
        except OSError as exc:
            self._children.pop(index, None)
            self._note_failed_start(f"no process can be started: {exc.strerror or exc}", None)
            return 0.0
        self._children[index] = child
        log.info("worker_started", worker=index, pid=child.pid)
        if self._stopping.is_set():
            child.kill()
        # The start itself may take long: a service of a plugin may load a model.
        await self._until(child.has_settled, child, child.answers, START_S)
        if child.is_ready:
            self._note_ready(child)
        await self._until(child.is_gone, child, lambda within_s: self._answers(child, within_s), HANG_S)
        self._count_changed()
        if child.is_leaving or not await child.ended(EXIT_CODE_S):
            self._let_leave(child)
        if not (child.has_served or child.is_leaving or self._stopping.is_set()):
            self._note_failed_start(child.ending, child)
        return child.served_s

    async def _until(
        self, event: asyncio.Event, child: Child, answers: Callable[[float], Awaitable[bool]], patience_s: float
    ) -> None:
        """Wait for an *event* of *child*; kill it if it hangs: what arrives at its socket would wait for ever."""
        while not event.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(PING_EVERY_S):
                    await event.wait()
            if not event.is_set() and not await answers(patience_s):
                self._kill(child, f"its event loop has not answered for {patience_s:g} s")
                await child.is_gone.wait()

    async def _answers(self, child: Child, within_s: float) -> bool:
        """Whether *child*, which serves, answers within that time; it is called silent before."""
        if await child.answers(SILENT_S):
            return True
        log.warning(
            "worker_silent", worker=child.index, pid=child.pid, silent_s=SILENT_S, killed_in_s=within_s - SILENT_S
        )
        self._on_silence(child, is_silent=True)
        self._silent.add(child)
        self._count_changed()
        try:
            if not await child.answers(within_s - SILENT_S):
                return False
        finally:
            self._silent.discard(child)
            self._count_changed()
        if not child.is_gone.is_set():
            log.info("worker_answers_again", worker=child.index, pid=child.pid)
            self._on_silence(child, is_silent=False)
        return True

    def _note_ready(self, child: Child) -> None:
        self._failed_starts.note_ready()
        if (succeeded := self._succeeded.pop(child.index, None)) is not None:
            succeeded.set()
        log.info("worker_ready", worker=child.index, pid=child.pid)
        self._on_ready(child)
        self._count_changed()
        if self._are_ready is not None and len(self.ready) == self._count and not self._are_ready.done():
            self._are_ready.set_result(None)

    def _count_changed(self) -> None:
        self.tell_all("workers", self.counts)

    def _note_failed_start(self, reason: str, child: Child | None) -> None:
        starting = self._are_ready
        if starting is not None and starting.done():
            return
        if starting is not None and child is not None and (failure := child.failure) is not None:
            # All have the same configuration: what one reports at the start would fail in each, and in one process.
            self._stopping.set()
            starting.set_exception(_ERRORS.get(failure.error, StartError)(failure.text))
        elif self._failed_starts.is_hopeless(does_any_serve=bool(self.ready)):
            self._stopping.set()
            count = self._failed_starts.count
            error = StartError(f"no worker serves: {count} starts of workers failed in a row, the last: {reason}")
            if starting is not None:
                starting.set_exception(error)
            else:
                self._give_up(error)

    def _let_leave(self, child: Child) -> None:
        """Let *child* finish its requests once its successor serves new ones."""
        if self._stopping.is_set():
            return
        self._leaving.add(child)
        succeeded = self._succeeded.setdefault(child.index, asyncio.Event())
        tasks.start(self._see_off(child, succeeded), name=f"end of worker {child.index}")

    async def _see_off(self, child: Child, succeeded: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await succeeded.wait()
        if not self._stopping.is_set():
            drain_s = self._drain_s()
            child.tell("stop", Stop(drain_s=drain_s, is_replaced=True))
            await self._end(child, drain_s + EXIT_S)
        self._leaving.discard(child)

    async def _end(self, child: Child, patience_s: float) -> None:
        if not await child.ended(patience_s):
            self._kill(child, f"not ended after {patience_s:g} s")
            await child.ended()

    def _kill(self, child: Child, reason: str) -> None:
        log.error("worker_killed", worker=child.index, pid=child.pid, reason=reason)
        child.kill()

    async def _balance(self) -> None:
        while True:
            await asyncio.sleep(BALANCE_S)
            ready = {child.index: child for child in self.ready}
            for index, count in connections_to_close({i: child.requests for i, child in ready.items()}).items():
                log.debug("worker_above_share", worker=index, requests=ready[index].requests, connections=count)
                ready[index].tell("shed", Shed(count))
