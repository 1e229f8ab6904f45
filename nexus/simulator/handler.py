"""Answers each request that a simulated server receives, or plays a fault on it."""

from itertools import count

from nexus.simulator.access import has_local_host, has_valid_key
from nexus.simulator.call import Call
from nexus.simulator.connection import Connection
from nexus.simulator.control import PREFIX, Control
from nexus.simulator.dialects import DIALECTS
from nexus.simulator.engine import Engine, Turn
from nexus.simulator.errors import refusal_answer, unknown_path_answer, wrong_method_answer
from nexus.simulator.fault_playback import changed, replace_answer, replaces_answer, send_broken
from nexus.simulator.faults import Fault, FaultSwitch
from nexus.simulator.kinds import Route, find_route, has_path
from nexus.simulator.messages import Answer, Request
from nexus.simulator.object_store import ObjectStore
from nexus.simulator.recording import Record, Recorder
from nexus.simulator.refusals import Refusal
from nexus.simulator.sending import Delivery, send
from nexus.simulator.settings import Settings

LISTINGS = frozenset({"/models", "/v1/models"})
"""The paths that a llama.cpp answers while it loads its model."""


class Handler:
    """Answers requests as a server of the kind would, or plays the next fault."""

    def __init__(self, settings: Settings, engine: Engine, faults: FaultSwitch, recorder: Recorder) -> None:
        self._settings = settings
        self._dialect = DIALECTS[settings.kind]
        self._engine = engine
        self._faults = faults
        self._recorder = recorder
        self._store = ObjectStore()
        self._control = Control(faults, recorder)
        self._numbers = count(1)

    def use(self, settings: Settings) -> None:
        """Use *settings* from now on."""
        self._settings = settings

    async def serve(self, connection: Connection, request: Request) -> None:
        if request.path.startswith(PREFIX):
            await self._serve_control(connection, request)
            return
        route, ids = self._route(request)
        fault = self._faults.take(is_inference=route is not None and route.is_inference, body=request.body)
        record = self._recorder.begin(request, connection.number, fault.kind if fault else None)
        is_complete = False
        try:
            await self._answer(self._delivery(connection, record), route, ids, fault)
            is_complete = True
        finally:
            self._recorder.end(record, client_left=not is_complete)

    def _route(self, request: Request) -> tuple[Route | None, tuple[str, ...]]:
        if request.path in self._settings.missing_paths:
            return None, ()
        return find_route(self._settings.kind, request.method, request.path)

    async def _serve_control(self, connection: Connection, request: Request) -> None:
        unrecorded = Record(number=0, connection=connection.number, request=request, began=0.0)
        delivery = self._delivery(connection, unrecorded)
        await send(delivery, self._control.answer(request), delivery.write)

    def _delivery(self, connection: Connection, record: Record) -> Delivery:
        has_body = record.request.method != "HEAD"
        return Delivery(connection=connection, dialect=self._dialect, record=record, has_body=has_body)

    async def _answer(self, delivery: Delivery, route: Route | None, ids: tuple[str, ...], fault: Fault | None) -> None:
        if fault is not None and replaces_answer(fault):
            await replace_answer(delivery, fault)
            return
        try:
            self._check_access(delivery.record.request)
            self._check_readiness(delivery.record.path)
            if route is not None and route.is_inference:
                await self._infer(delivery, route, fault)
            else:
                await _deliver(delivery, await self._describe(delivery.record.request, route, ids), fault)
        except Refusal as refusal:
            answer = refusal_answer(refusal, self._settings.kind, delivery.record.path)
            await send(delivery, answer, delivery.write)

    def _check_access(self, request: Request) -> None:
        if self._dialect.checks_host and not has_local_host(request):
            raise Refusal("foreign_host")
        if not has_valid_key(request, self._settings.api_key, self._dialect):
            raise Refusal("unauthorized")

    def _check_readiness(self, path: str) -> None:
        if self._engine.memory.is_starting and path not in LISTINGS:
            raise Refusal("loading")

    async def _infer(self, delivery: Delivery, route: Route, fault: Fault | None) -> None:
        with self._engine.admit() as turn:
            answer = await route.answer(self._call(changed(delivery.record.request, fault), turn))
            if self._dialect.head_at == "slot":
                await turn.start()
            await _deliver(delivery, answer, fault)

    async def _describe(self, request: Request, route: Route | None, ids: tuple[str, ...]) -> Answer:
        if route is not None:
            return await route.answer(self._call(request, None, ids))
        if request.path not in self._settings.missing_paths and has_path(self._settings.kind, request.path):
            return wrong_method_answer(self._settings.kind)
        return unknown_path_answer(request.method, request.path, self._settings.kind)

    def _call(self, request: Request, turn: Turn | None, ids: tuple[str, ...] = ()) -> Call:
        return Call(
            number=next(self._numbers),
            request=request,
            settings=self._settings,
            dialect=self._dialect,
            engine=self._engine,
            store=self._store,
            ids=ids,
            turn=turn,
        )


async def _deliver(delivery: Delivery, answer: Answer, fault: Fault | None) -> None:
    if fault is None:
        await send(delivery, answer, delivery.write)
    else:
        await send_broken(delivery, answer, fault)
