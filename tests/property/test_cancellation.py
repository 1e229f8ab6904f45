"""Wherever an exchange is cancelled, everything that it holds is given back, once, and its end is told, once."""

import asyncio
import io
import types
from collections import Counter
from contextlib import AsyncExitStack

import msgspec
import pytest
import structlog

from nexus.config.schema import LoggingConfig
from nexus.observability.logging import logs
from nexus.routing.core_stages import schedule
from nexus.testing.proxy import nexus_in_loop
from nexus.testing.waiting import eventually
from tests.support.bookkeeping import Books, what_is_held
from tests.support.dialects import CHAT, LAST_CHUNK, MODEL, chunks, whole_answer
from tests.support.raw_client import RawClient
from tests.support.scripted import Close, ReadRequest, ScriptedBackend, Send, Stall, Wait

LEAST_AWAITS = 3
MOST_AWAITS = 40
LATER_S = 0.003
CONFIG = """
[timeouts]
first_byte_seconds = 0.1
whole_answer_seconds = 0.1
connect_seconds = 0.5
[health_check]
enabled = false
interval_seconds = 3600
timeout_seconds = 1
# These reads have connections of their own, which the books would find open.
load_interval_seconds = 0
[discovery]
enabled = false
[routing]
strategy = "priority_only"
"""
BACKEND = """
[[backends]]
name = "{name}"
url = "{url}"
type = "generic"
priority = {priority}
max_in_flight = 1
[backends.models."{model}"]
"""


# where it is interrupted


class Interrupted:
    """Runs a coroutine and counts its awaits; at the chosen one it is interrupted in the chosen way."""

    def __init__(self, at, interrupt):
        self.awaits = 0
        self.client = None
        self._at = at
        self._interrupt = interrupt

    @types.coroutine
    def run(self, coroutine):
        task, value, error = asyncio.current_task(), None, None
        while True:
            try:
                future = coroutine.throw(error) if error is not None else coroutine.send(value)
            except StopIteration as end:
                return end.value
            self.awaits += 1
            if self.awaits == self._at:
                self._interrupt(task, future, self.client)
            value, error = None, None
            try:
                value = yield future
            except BaseException as exc:  # noqa: BLE001 - whatever it is, it is the coroutine's
                error = exc


def cancelled_while_it_waits(task, future, client):
    asyncio.get_running_loop().call_soon(task.cancel)


def cancelled_before_it_waits(task, future, client):
    """Cancel now: what it is about to wait for is cancelled with it."""
    task.cancel()


def cancelled_when_it_has_waited(task, future, client):
    """Cancel in the very moment in which what it waits for has come."""
    if future is None:
        task.cancel()
    else:
        # The task's own callback is added later: this one is called before it.
        future.add_done_callback(lambda _: task.cancel())


def left_by_its_client(task, future, client):
    client.reset()


def left_by_its_client_in_good_order(task, future, client):
    """Close the connection: unlike a reset, this is noticed only when something is written."""
    client.leave()


WAYS = (
    cancelled_while_it_waits,
    cancelled_before_it_waits,
    cancelled_when_it_has_waited,
    left_by_its_client,
    left_by_its_client_in_good_order,
)


SETTLED = []
"""Each slot, each time that it was settled."""


class CountedSlot(schedule.Slot):
    def settle(self, outcome):
        SETTLED.append(self)
        super().settle(outcome)


# what is cancelled


GOOD = (ReadRequest(), Send(CHAT.good_answer))
SLOWLY = (ReadRequest(), Wait(LATER_S), Send(CHAT.good_answer[:30]), Wait(LATER_S), Send(CHAT.good_answer[30:]))
STREAM = (
    ReadRequest(),
    Send(CHAT.stream_head()),
    Wait(LATER_S),
    Send(chunks(*CHAT.events[:3])),
    Wait(LATER_S),
    Send(chunks(*CHAT.events[3:]) + LAST_CHUNK),
)
CUT = (ReadRequest(), Send(CHAT.stream_head() + chunks(*CHAT.events[:3])), Wait(LATER_S), Close())
BUSY = (ReadRequest(), Send(whole_answer(b'{"error":{"message":"busy"}}', status=503)))

REST = 5
"""Bytes of a request that come late."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One request and what the backends do with it."""

    first: tuple = GOOD
    second: tuple = GOOD
    is_stream: bool = False
    comes_in_parts: bool = False
    has_to_queue: bool = False
    padding: int = 0

    @property
    def request(self):
        return CHAT.request(CHAT.body(stream=self.is_stream, padding="x" * self.padding))


SCENARIOS = {
    "a whole answer": Scenario(),
    "a slow whole answer": Scenario(first=SLOWLY),
    "a request in parts": Scenario(comes_in_parts=True),
    "a large request": Scenario(padding=1_200_000),
    "a stream": Scenario(first=STREAM, is_stream=True),
    "a stream that is cut": Scenario(first=CUT, is_stream=True),
    "a retried answer": Scenario(first=(ReadRequest(), Close()), second=SLOWLY),
    "a retried stream": Scenario(first=BUSY, second=STREAM, is_stream=True),
    "a failure everywhere": Scenario(first=BUSY, second=(ReadRequest(), Close())),
    "a late answer": Scenario(first=(ReadRequest(), Stall())),
    "a queued answer": Scenario(has_to_queue=True),
    "a queued stream": Scenario(first=STREAM, is_stream=True, has_to_queue=True),
}


class World:
    """A proxy before two scripted backends, and the books."""

    def __init__(self, nexus, backends, books):
        self.nexus = nexus
        self.books = books
        self._backends = backends
        self._loop = asyncio.get_running_loop()
        self._handle = nexus._server.handle

    async def carry(self, scenario, interrupted):
        """Have one request carried and interrupted, and wait until that is over."""

        async def answer(*request):
            return await interrupted.run(self._handle(*request))

        self.nexus._server.handle = answer
        for backend, steps in zip(self._backends, (scenario.first, scenario.second), strict=True):
            backend.play(steps)
        if scenario.has_to_queue:
            self._take_all_slots()
        count = len(self.books.outcomes)
        client = interrupted.client = await RawClient.connect(self.nexus.port)
        self._send(client, scenario)
        await eventually(lambda: len(self.books.outcomes) > count)
        client.leave()
        await eventually(lambda: not any(what_is_held(self.nexus).values()), lambda: str(what_is_held(self.nexus)))
        self.nexus.plane.upstreams.close()
        await eventually(lambda: not any(backend.open_connections for backend in self._backends))

    def _send(self, client, scenario):
        request = scenario.request
        if scenario.comes_in_parts:
            client.writer.write(request[:-REST])
            self._loop.call_later(LATER_S, lambda: client.writer.is_closing() or client.writer.write(request[-REST:]))
        else:
            client.writer.write(request)

    def _take_all_slots(self):
        for backend in self.nexus.fleet.snapshot.backends:
            backend.load.acquire()
            self._loop.call_later(LATER_S, self._give_slot, backend)

    def _give_slot(self, backend):
        backend.load.release()
        self.nexus.plane.queue.slot_freed(backend.name)


@pytest.fixture
async def world(monkeypatch):
    monkeypatch.setattr(schedule, "Slot", CountedSlot)
    # What one exchange does to a breaker must not decide what the next one meets.
    monkeypatch.setattr("nexus.fleet.health.breaker.FAILURES_TO_OPEN", 10**9)
    monkeypatch.setattr("nexus.proxy.exchange.retry.RetryBudget.spend", lambda self, now_s: True)
    SETTLED.clear()
    logs.configure(LoggingConfig(), stream=io.StringIO())
    async with AsyncExitStack() as running:
        running.callback(logs.shutdown)
        log = running.enter_context(structlog.testing.capture_logs())
        backends = [await running.enter_async_context(ScriptedBackend([Close()])) for _ in range(2)]
        tables = [
            BACKEND.format(name=f"gpu-{n}", url=backend.url, priority=10 * n, model=MODEL)
            for n, backend in enumerate(backends, start=1)
        ]
        nexus = await running.enter_async_context(nexus_in_loop(CONFIG + "".join(tables)))
        books = Books(nexus, log)
        yield World(nexus, backends, books)
        await books.balance(*backends)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
@pytest.mark.parametrize("interrupt", WAYS, ids=lambda way: way.__name__)
async def test_an_exchange_that_is_interrupted_at_any_await_gives_all_back(world, scenario, interrupt):
    for at in range(1, MOST_AWAITS):
        interrupted = Interrupted(at, interrupt)

        await world.carry(scenario, interrupted)

        assert len(world.books.outcomes) == at, "an exchange has exactly one outcome"
        assert set(Counter(map(id, SETTLED)).values()) <= {1}, "a slot was settled twice"
        if interrupted.awaits < at:
            break
    assert LEAST_AWAITS < at < MOST_AWAITS
    assert world.books.outcomes[-1].ending != "client_left"
