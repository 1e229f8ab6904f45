"""Runs a proxy as one of several workers, and obeys the parent."""

import asyncio
import signal
import socket
from contextlib import suppress
from typing import Final

import structlog

from nexus import tasks
from nexus.admin.workers import Workers
from nexus.app.composition.blueprint import Blueprint, build_blueprint
from nexus.app.process import interpreter, memory
from nexus.app.process.accept_queue import SETTLE_S
from nexus.app.running.nexus import Nexus
from nexus.app.workers.adoption import Adoption
from nexus.app.workers.inherited import InheritedResources
from nexus.app.workers.messages import Busy, Counts, Failed, Finish, Orders, Prepare, Ready, Refused, Shed, Stop
from nexus.errors import NexusError
from nexus.observability.logging import logs
from nexus.workers.channel import Channel, ChannelError

log = structlog.get_logger("nexus.app")

DECISION_S: Final = 120.0
"""How long a prepared reload waits for the other workers before it is discarded."""
SAMPLE_S: Final = 0.5
SAMPLES_PER_REPORT: Final = 4
WEIGHT: Final = 0.25
"""Of a new sample in the average number of requests."""
LEAVE_S: Final = 0.2
"""How long after a SIGTERM a worker asks to be replaced, unless the parent says to stop."""
HURRIED_DRAIN_S: Final = 5.0
"""How long the drain of a worker without a parent may still take after a SIGTERM."""


class Worker:
    """The proxy of this process.

    :param sock: the channel to the parent, after the orders were read from it.
    """

    def __init__(self, orders: Orders, sock: socket.socket, blueprint: Blueprint) -> None:
        self._orders = orders
        self._socket = sock
        self._channel = Channel("parent")
        self._nexus = Nexus(blueprint, InheritedResources(orders, self._channel, blueprint))
        self._adoption = Adoption(orders.others, self._nexus.serve_at)
        self._generation = orders.configuration.generation
        self._stops: asyncio.Queue[Stop] = asyncio.Queue()
        self._is_over = False
        """Whether this process ends by itself."""
        self._decision: asyncio.Future[bool] | None = None
        """Whether the prepared reload is used; None: there is none."""

    async def run(self) -> None:
        """Serve until the parent says to stop, or has ended.

        :raises NexusError: the proxy cannot be started.
        """
        nexus, channel = self._nexus, self._channel
        nexus.state.workers = Workers(self._orders.workers, 0)
        channel.on("stop", Stop, self._stops.put_nowait)
        channel.on("workers", Counts, self._note_counts)
        channel.on("shed", Shed, self._shed)
        channel.on("reload.finish", Finish, self._finish_reload)
        channel.on("reload.refused", Refused, self._note_refused)
        channel.answers("reload.prepare", Prepare, self._prepare)
        channel.answers("ping", type(None), self._answer_ping)
        await channel.open(self._socket)
        channel.on_closed(self._lose_parent)
        self._tell("begun", None)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._leave)
        try:
            if await self._start():
                await self._serve()
        except NexusError as exc:
            self._tell("failed", Failed(type(exc).__name__, str(exc)))
            raise
        finally:
            self._is_over = True
            channel.close()

    async def _serve(self) -> None:
        interpreter.tune_collector()
        self._tell("ready", Ready(self._generation))
        background = (
            tasks.start(memory.give_back(lambda: self._nexus.is_idle), name="memory"),
            tasks.keep_running(self._report, name="report requests"),
        )
        stop = await self._stops.get()
        await tasks.stop(*background)
        await self._drain(stop)

    async def _start(self) -> bool:
        """Start the proxy, and return whether that finished before the parent said to stop."""
        starting = tasks.start(self._try_to_start(), name="start")
        stopping = tasks.start(self._stops.get(), name="await stop")
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            await tasks.stop(starting)
            return False
        await tasks.stop(stopping)
        if (failure := starting.result()) is not None:
            raise failure
        return True

    async def _try_to_start(self) -> NexusError | None:
        """Start the proxy, and return why that failed: the parent is told, and says so."""
        try:
            await self._nexus.start()
        except NexusError as exc:
            return exc
        return None

    async def _drain(self, stop: Stop) -> None:
        """Stop the proxy; a further order to stop replaces the one before."""
        self._adoption.close()
        while True:
            ending = tasks.start(
                self._nexus.stop(
                    lame_duck_s=stop.lame_duck_s,
                    drain_s=stop.drain_s,
                    # What waits at the sockets is accepted by the successor.
                    settle_s=0.0 if stop.is_replaced else SETTLE_S,
                ),
                name="drain",
            )
            further = tasks.start(self._stops.get(), name="await stop")
            await asyncio.wait({ending, further}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                await tasks.stop(further)
                return
            await tasks.stop(ending)
            stop = further.result()

    # what the parent says

    async def _answer_ping(self, _: None) -> None:
        """Show that the event loop runs."""

    def _note_counts(self, counts: Counts) -> None:
        self._nexus.state.workers = Workers(counts.wanted, counts.ready)
        self._adoption.attend(counts.unattended)

    def _shed(self, shed: Shed) -> None:
        self._nexus.shed(shed.connections)

    async def _prepare(self, prepare: Prepare) -> None:
        """Answer once the services of a new configuration have started; :meth:`_finish_reload` switches to it."""
        loaded = await asyncio.to_thread(prepare.configuration.load)
        blueprint = build_blueprint(loaded, self._nexus.blueprint.plugins)
        self._discard_prepared()
        decision: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._decision = decision
        prepared = asyncio.Event()

        async def agree() -> bool:
            prepared.set()
            await asyncio.wait({decision}, timeout=DECISION_S)
            return decision.done() and decision.result()

        async def reload() -> NexusError | None:
            try:
                is_used = await self._nexus.reload(blueprint, agree=agree)
            except NexusError as exc:
                return exc
            if is_used:
                self._generation = prepare.configuration.generation
                logs.configure(loaded.config.logging)
            return None

        reloading = tasks.start(reload(), name="reload")
        preparing = tasks.start(prepared.wait(), name="prepare reload")
        await asyncio.wait({reloading, preparing}, return_when=asyncio.FIRST_COMPLETED)
        await tasks.stop(preparing)
        if reloading.done() and (failure := reloading.result()) is not None:
            # The parent reports it, once for all workers.
            raise failure

    def _finish_reload(self, finish: Finish) -> None:
        if self._decision is not None and not self._decision.done():
            self._decision.set_result(finish.is_used)

    def _discard_prepared(self) -> None:
        self._finish_reload(Finish(is_used=False))

    def _note_refused(self, refused: Refused) -> None:
        # The parent has logged it.
        self._nexus.state.rejected_reload = refused.reason

    def _lose_parent(self) -> None:
        self._discard_prepared()
        if self._nexus.state.is_draining or self._is_over:
            return
        log.error("parent_lost", reason="the parent process has ended; this worker finishes its requests and ends too")
        self._stops.put_nowait(Stop(drain_s=self._nexus.blueprint.config.server.drain_timeout_seconds))

    # what the parent is told

    def _leave(self) -> None:
        """Ask to be replaced; without a parent, hurry."""
        if self._channel.is_open:
            # A service manager may signal all processes at once; then the parent says to stop in a moment.
            asyncio.get_running_loop().call_later(LEAVE_S, self._ask_to_leave)
        else:
            self._stops.put_nowait(Stop(drain_s=HURRIED_DRAIN_S))

    def _ask_to_leave(self) -> None:
        if not self._nexus.state.is_draining:
            self._tell("leave", None)

    async def _report(self) -> None:
        """Tell the parent how many requests there are, on average, as long as that changes."""
        average = told = 0.0
        while True:
            for _ in range(SAMPLES_PER_REPORT):
                await asyncio.sleep(SAMPLE_S)
                average += (self._nexus.plane.in_flight - average) * WEIGHT
            if abs(average - told) > 0.5:
                told = average
                self._tell("busy", Busy(average))

    def _tell(self, topic: str, payload: object) -> None:
        # A lost parent is noticed by the end of the channel.
        with suppress(ChannelError):
            self._channel.send(topic, payload)
