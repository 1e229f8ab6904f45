"""A simulated inference server."""

import asyncio
from collections import deque
from types import TracebackType
from typing import Final, Self

import msgspec

from nexus.simulator.connection import Connection, HangUpAtOnce
from nexus.simulator.dialects import DIALECTS
from nexus.simulator.engine import Engine
from nexus.simulator.faults import FaultSwitch
from nexus.simulator.handler import Handler
from nexus.simulator.listener import Listener
from nexus.simulator.recording import Record, Recorder
from nexus.simulator.settings import Settings, SimulatedModel

TURNS_TO_ACCEPT: Final = 3
"""Turns of the loop after which a connection that was just accepted is known, and is closed with the others."""


class Simulator:
    """A simulated inference server: ``async with Simulator(Settings(kind="vllm")) as simulator: ...``"""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.engine = Engine(self.settings)
        self.faults = FaultSwitch(self._faults_changed)
        self._recorder = Recorder()
        self._handler = Handler(self.settings, self.engine, self.faults, self._recorder)
        self._connections: set[Connection] = set()
        self._listener: Listener | None = None
        self._reopening: asyncio.TimerHandle | None = None

    def serve_models(self, *models: SimulatedModel | str) -> None:
        """Replace the models that it serves."""
        self.settings = msgspec.structs.replace(self.settings, models=models)
        self._handler.use(self.settings)
        self.engine.memory.begin(self.settings)

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def port(self) -> int:
        if self._listener is None:
            raise RuntimeError("the simulator has not been started")
        return self._listener.address[1]

    @property
    def url(self) -> str:
        """Return its base URL, without a trailing slash."""
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"{'https' if self.settings.tls else 'http'}://{host}:{self.port}"

    @property
    def requests(self) -> deque[Record]:
        """Return the received requests, oldest first; the oldest are dropped."""
        return self._recorder.requests

    def received(self, path: str) -> tuple[Record, ...]:
        """Return the requests to one path."""
        return tuple(record for record in self.requests if record.path == path)

    @property
    def active(self) -> int:
        """Return how many requests are in flight."""
        return self._recorder.active

    async def idle(self) -> None:
        """Wait until no request is in flight."""
        await self._recorder.is_idle.wait()

    @property
    def aborted(self) -> tuple[Record, ...]:
        """Return the requests whose clients disconnected before the answer was complete."""
        return tuple(record for record in self.requests if record.client_left is not None)

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.engine.begin()
        self._listener = Listener(self._connect, self.settings.host, self.settings.port, self.settings.tls)
        self.engine.memory.start()
        self._listen_or_refuse()

    async def stop(self) -> None:
        """Close everything; it can be started again."""
        if self._reopening is not None:
            self._reopening.cancel()
        if self._listener is not None:
            self._listener.release()
            self._listener = None
        for _ in range(TURNS_TO_ACCEPT):
            await asyncio.sleep(0)
        await asyncio.gather(*(connection.abandon() for connection in tuple(self._connections)))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _connect(self) -> asyncio.Protocol:
        if self.faults.take_at_accept() is not None:
            return HangUpAtOnce()
        idle_s = DIALECTS[self.settings.kind].idle_s
        return Connection(self._handler.serve, self._connections, idle_s)

    def _faults_changed(self) -> None:
        """Close or open the listening socket, whichever thread set the faults."""
        if self._listener is None:
            return
        if _is_running(self._loop):
            self._listen_or_refuse()
        else:
            asyncio.run_coroutine_threadsafe(self._listen_or_refuse_there(), self._loop).result()

    async def _listen_or_refuse_there(self) -> None:
        self._listen_or_refuse()

    def _listen_or_refuse(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None
        if self._listener is None:
            return
        refusal = self.faults.refusal
        if refusal is None:
            self._listener.open()
            return
        self._listener.close()
        for connection in tuple(self._connections):
            connection.close_after_answer(kill=refusal.kills_active)
        if refusal.for_s is not None:
            self._reopening = self._loop.call_later(refusal.for_s, self.faults.end_refusal)


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
