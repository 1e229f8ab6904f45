"""A client that leaves frees its slot and stops its backend at once, in whichever phase it leaves."""

import asyncio
import contextlib
import random
from statistics import quantiles
from time import monotonic

import pytest

from nexus import tasks
from nexus.dialing import names
from nexus.testing.waiting import eventually
from tests.support.bookkeeping import what_is_held
from tests.support.dialects import CHAT, LAST_CHUNK, chunks
from tests.support.raw_client import RawClient, allow_any_end
from tests.support.scripted import ReadHead, ReadRequest, Send, Stall, Wait

AT_ONCE_S = 0.1
SLACK_S = 0.1
"""What a shared machine may add."""


@pytest.fixture(params=["leave", "reset"])
def go(request):
    """Make a client go, in good order or not."""
    return lambda client: getattr(client, request.param)()


async def gone(scene, backend, client, go):
    """Let the client go, and return how long the backend was left waiting."""
    went_at = monotonic()
    go(client)
    await backend.ended()
    assert backend.attempts[-1].cause == "client_left"
    return backend.attempts[-1].end - went_at


async def test_in_the_head_nothing_has_begun(start, script, go):
    backend = await script()
    scene = await start(backend=backend)
    client = await scene.connect()
    client.writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: loc")
    await asyncio.sleep(0.02)

    go(client)
    await asyncio.sleep(0.05)

    assert (scene.outcomes, backend.attempts) == ([], [])


async def test_in_the_body_nothing_was_reserved(start, script, dialect, go):
    backend = await script()
    scene = await start(backend=backend)
    client = await scene.connect()
    client.writer.write(dialect.request(dialect.body(stream=True))[:-5])
    await eventually(lambda: what_is_held(scene.nexus)["exchanges"])

    go(client)

    outcome = await scene.books.outcome()
    assert (outcome.ending, outcome.status, outcome.phase, outcome.termination) == ("client_left", 499, "receive", "CR")
    assert (outcome.attempts, backend.attempts) == ((), [])


async def test_while_connecting_nothing_is_sent(start, script, go, monkeypatch):
    async def never(host, port):
        await asyncio.sleep(30)

    monkeypatch.setattr(names, "look_up", never)
    backend = await script()
    scene = await start(backend=backend, options={"backend": {"url": "http://gpu-7.localhost:9"}})
    client = await scene.connect()
    client.send(CHAT)
    await eventually(lambda: what_is_held(scene.nexus)["slots"])

    go(client)

    outcome = await scene.books.outcome()
    assert (outcome.ending, outcome.phase, outcome.termination) == ("client_left", "send", "CC")


PHASES = {
    "before the head": ((ReadRequest(), Stall()), "await_first_byte", "CH", 499),
    "before the request is read": ((ReadHead(), Stall()), "await_first_byte", "CH", 499),
    "in the head": ((ReadRequest(), Send(b"HTTP/1.1 200 OK\r\nContent"), Stall()), "await_first_byte", "CH", 499),
}


@pytest.mark.parametrize(("steps", "phase", "termination", "status"), PHASES.values(), ids=PHASES.keys())
@pytest.mark.parametrize("stream", [False, True])
async def test_before_the_first_byte(start, script, dialect, go, stream, steps, phase, termination, status):
    backend, other = await script(), await script()
    scene = await start(backend=backend, other=other)
    backend.play(steps)
    client = await scene.connect()
    client.send(dialect, stream=stream)
    await eventually(lambda: backend.attempts and b"\r\n\r\n" in backend.attempts[0].received)

    assert await gone(scene, backend, client, go) < AT_ONCE_S + SLACK_S

    outcome = await scene.books.outcome()
    assert (outcome.ending, outcome.status) == ("client_left", status)
    assert (outcome.phase, outcome.termination) == (phase, termination)
    assert other.attempts == []
    assert scene.backend("backend").breaker == "closed"


async def test_in_an_answer_that_is_held_back(start, script, dialect, go):
    backend = await script()
    scene = await start(backend=backend)
    backend.play([ReadRequest(), Send(dialect.good_answer[:-5]), Stall()])
    client = await scene.connect()
    client.send(dialect)
    await eventually(lambda: backend.attempts and backend.attempts[0].first_byte)

    assert await gone(scene, backend, client, go) < AT_ONCE_S + SLACK_S

    assert (await scene.books.outcome()).termination == "CH"


async def test_in_a_stream(start, script, dialect, go):
    backend = await script()
    scene = await start(backend=backend)
    backend.play([ReadRequest(), Send(dialect.stream_head() + chunks(*dialect.events[:3])), Stall()])
    client = await scene.connect()
    client.send(dialect, stream=True)
    await client.reader.readuntil(dialect.events[2])

    assert await gone(scene, backend, client, go) < AT_ONCE_S + SLACK_S

    outcome = await scene.books.outcome()
    assert (outcome.ending, outcome.phase, outcome.termination) == ("client_left", "relay", "CD")
    assert outcome.bytes_out == len(b"".join(dialect.events[:3]))


async def test_in_a_stream_that_flows(start, script, go):
    backend = await script()
    scene = await start(backend=backend)
    flow = [Send(chunks(CHAT.events[2])), Wait(0.001)] * 3000
    backend.play([ReadRequest(), Send(CHAT.stream_head() + chunks(*CHAT.events[:3])), *flow])
    client = await scene.connect()
    client.send(CHAT, stream=True)
    await client.reader.readuntil(CHAT.events[2])

    assert await gone(scene, backend, client, go) < AT_ONCE_S + SLACK_S

    assert (await scene.books.outcome()).ending == "client_left"


async def test_after_the_last_byte_everything_is_finished(start, script, dialect, go):
    backend = await script()
    scene = await start(backend=backend)
    backend.play([ReadRequest(), Send(dialect.good_stream)])
    client = await scene.connect()
    client.send(dialect, stream=True)
    await client.reader.readuntil(LAST_CHUNK)

    go(client)

    assert (await scene.books.outcome()).ending == "finished"


async def test_in_the_queue(start, script, go):
    backend = await script()
    scene = await start(backend=backend, options={"backend": {"max_in_flight": 1}})
    backend.play([ReadRequest(), Stall()])
    first, second = await scene.connect(), await scene.connect()
    first.send(CHAT)
    await eventually(lambda: backend.attempts)
    held = what_is_held(scene.nexus)
    second.send(CHAT)
    await eventually(lambda: what_is_held(scene.nexus)["waiting"])

    go(second)
    outcome = await scene.books.outcome()

    assert (outcome.ending, outcome.phase, outcome.termination) == ("client_left", "queue", "CQ")
    assert what_is_held(scene.nexus) == held
    assert (held["exchanges"], held["slots"], held["unanswered"], held["waiting"]) == (1, 1, 1, 0)
    assert len(backend.attempts) == 1


async def test_a_half_closed_client_that_leaves_later_is_noticed(start, script, go):
    backend = await script()
    scene = await start(backend=backend)
    backend.play([ReadRequest(), Stall()])
    client = await scene.connect()
    client.send(CHAT)
    await eventually(lambda: backend.attempts and b"hello" in backend.attempts[0].received)
    client.writer.write_eof()
    await asyncio.sleep(0.1)
    assert scene.outcomes == []

    assert await gone(scene, backend, client, go) < 1.0

    assert (await scene.books.outcome()).ending == "client_left"


@contextlib.asynccontextmanager
async def tunnel(port):
    """Pass bytes on to *port*, and each side's FIN for itself, as port forwarders do; give the port of the tunnel."""
    passing = set()

    async def pass_on(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except ConnectionError:
            writer.transport.abort()

    async def accept(reader, writer):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        allow_any_end(writer)
        allow_any_end(far_writer)
        back = tasks.start(pass_on(far_reader, writer), name="tunnel back")
        passing.update({back, tasks.start(pass_on(reader, far_writer), name="tunnel there")})
        await asyncio.wait({back})
        # The client is gone, which showed when something was passed back to it.
        writer.transport.abort()
        far_writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await tasks.stop(*passing)


@pytest.mark.parametrize("stream", [False, True])
async def test_behind_a_tunnel_that_passes_fin_on(start, script, stream):
    backend = await script()
    scene = await start(backend=backend)
    backend.play([ReadRequest(), *([Send(CHAT.stream_head() + chunks(*CHAT.events[:3]))] if stream else []), Stall()])
    async with tunnel(scene.nexus.port) as port:
        client = await RawClient.connect(port)
        client.send(CHAT, stream=stream)
        await eventually(lambda: backend.attempts and b"hello" in backend.attempts[0].received)
        await asyncio.sleep(0.05)

        client.leave()

        assert (await scene.books.outcome()).ending == "client_left"
    await backend.ended()


async def test_an_http_1_0_client_that_closes_in_the_middle_of_a_stream_has_left(start, script, go):
    backend = await script()
    scene = await start(backend=backend)
    backend.play([ReadRequest(), Send(CHAT.stream_head() + chunks(*CHAT.events[:3])), Stall()])
    client = await scene.connect()
    client.writer.write(CHAT.request(CHAT.body(stream=True), version="1.0"))
    await client.reader.readuntil(CHAT.events[2])

    assert await gone(scene, backend, client, go) < AT_ONCE_S + SLACK_S


async def test_a_client_that_leaves_never_costs_the_next_one(start, script):
    backend = await script()
    scene = await start(backend=backend, options={"backend": {"max_in_flight": 1}})
    backend.play([ReadRequest(), Stall()], [ReadRequest(), Send(CHAT.good_answer)])
    client, next_client = await scene.connect(), await scene.connect()
    client.send(CHAT)
    await eventually(lambda: backend.attempts)
    next_client.send(CHAT)
    await eventually(lambda: what_is_held(scene.nexus)["waiting"])

    client.leave()

    assert (await next_client.reply()).status == 200


async def test_a_storm_of_clients_that_leave_does_no_harm(start, simulate):
    simulator = await simulate("gpu", ttft_s=0.01, tokens_per_s=400)
    scene = await start(gpu=simulator)
    dice = random.Random(7)
    calm = await latencies(scene, 20)

    async def leave_soon():
        client = await scene.connect()
        client.send(CHAT, stream=dice.random() < 0.5)
        await asyncio.sleep(dice.random() * 0.05)
        dice.choice([client.leave, client.reset])()

    async def storm():
        for _ in range(10):
            await asyncio.gather(*(leave_soon() for _ in range(40)))

    _, stormy = await asyncio.gather(storm(), latencies(scene, 40))

    await eventually(lambda: len(scene.outcomes) >= 60 and not any(what_is_held(scene.nexus).values()))
    assert {outcome.ending for outcome in scene.outcomes} <= {"client_left", "finished"}
    assert quantiles(stormy, n=10)[-1] < 5 * max(calm) + 1.0
    await simulator.idle()


async def latencies(scene, count):
    """Ask so many times, and return how long each answer took."""
    taken = []
    for _ in range(count):
        began = monotonic()
        assert (await scene.ask(CHAT)).status == 200
        taken.append(monotonic() - began)
    return taken
