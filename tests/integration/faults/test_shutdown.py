"""Who is being served when Nexus is told to stop is served to the end, or told when the drain time is over."""

import asyncio
import json
import socket

import pytest

from nexus.app.running import nexus as running
from nexus.testing.waiting import eventually
from tests.support.bookkeeping import what_is_held
from tests.support.dialects import CHAT, LAST_CHUNK, OLLAMA, chunks
from tests.support.scripted import ReadRequest, Send, Stall, Wait

SOON_S = 0.1
DRAIN_S = 0.3


def begun(dialect):
    return [ReadRequest(), Send(dialect.stream_head() + chunks(*dialect.events[:3]))]


def ends_soon(dialect):
    return [*begun(dialect), Wait(SOON_S), Send(chunks(*dialect.events[3:]) + LAST_CHUNK)]


async def ask(scene, dialect, *, stream):
    client = await scene.connect()
    client.send(dialect, stream=stream)
    return client


async def busy(scene, count):
    await eventually(lambda: what_is_held(scene.nexus)["exchanges"] == count)


@pytest.fixture
def stop():
    """Stop the proxy of a scene, beside whatever the test does."""
    stopping = []

    def begin(scene, **options):
        scene.is_stopped = True
        stopping.append(asyncio.ensure_future(scene.nexus.stop(**options)))
        return stopping[-1]

    return begin


async def test_what_ends_in_time_ends_well(start, script, dialect, stop):
    gpu = await script()
    scene = await start(gpu=gpu)
    gpu.play(ends_soon(dialect), [ReadRequest(), Wait(SOON_S), Send(dialect.good_answer)])
    stream, whole = await ask(scene, dialect, stream=True), None
    await eventually(lambda: gpu.attempts)
    whole = await ask(scene, dialect, stream=False)
    await busy(scene, 2)

    stopping = stop(scene, drain_s=5.0)
    replies = [await stream.reply(), await whole.reply()]
    await stopping

    assert replies[0].looks_finished(dialect)
    assert (replies[1].status, replies[1].is_whole, replies[1].headers["connection"]) == (200, True, "close")
    assert {outcome.ending for outcome in scene.outcomes} == {"finished"}


async def test_a_stream_that_does_not_end_is_ended_with_an_error(start, script, dialect, stop):
    gpu = await script()
    scene = await start(gpu=gpu)
    gpu.play([*begun(dialect), Stall()])
    client = await ask(scene, dialect, stream=True)
    await client.reader.readuntil(dialect.events[0][-20:])

    stopping = stop(scene, drain_s=DRAIN_S)
    await asyncio.sleep(DRAIN_S / 2)
    assert not scene.outcomes
    await stopping
    tail = await client.reader.read()

    assert dialect.failure in tail
    last = json.loads(tail.strip().rsplit(b"\n", 1)[-1].removeprefix(b"data: "))
    assert (last["code"] if dialect is OLLAMA else last["error"]["code"]) == "server_shutdown"
    assert LAST_CHUNK not in tail
    assert (scene.outcomes[0].ending, scene.outcomes[0].termination) == ("shut_down", "KD")
    assert gpu.attempts[0].cause == "client_left"


async def test_an_answer_that_has_not_begun_is_refused_at_the_end(start, script, dialect, stop):
    gpu = await script()
    scene = await start(gpu=gpu)
    gpu.play([ReadRequest(), Stall()])
    client = await ask(scene, dialect, stream=False)
    await eventually(lambda: gpu.attempts)

    await stop(scene, drain_s=0.05)
    reply = await client.reply()

    assert (reply.status, reply.code) == (503, "draining")
    assert "retry-after" in reply.headers
    (outcome,) = scene.outcomes
    # Whoever pays for the attempt must learn that it was under way.
    assert (outcome.ending, outcome.termination, outcome.attempts[0].ending) == ("shut_down", "KH", "shut_down")


async def test_who_waits_in_line_is_refused_at_the_end(start, script, stop):
    gpu = await script()
    scene = await start(gpu=gpu, options={"gpu": {"max_in_flight": 1}})
    gpu.play([ReadRequest(), Stall()])
    await ask(scene, CHAT, stream=False)
    await eventually(lambda: gpu.attempts)
    waiter = await ask(scene, CHAT, stream=False)
    await eventually(lambda: what_is_held(scene.nexus)["waiting"])

    await stop(scene, drain_s=0.05)

    assert (await waiter.reply()).code == "draining"
    assert {(outcome.ending, outcome.termination) for outcome in scene.outcomes} == {
        ("shut_down", "KH"),
        ("shut_down", "KQ"),
    }


async def test_who_waits_in_line_is_still_served_in_the_drain_time(start, script, stop):
    gpu = await script()
    scene = await start(gpu=gpu, options={"gpu": {"max_in_flight": 1}})
    slowly = [ReadRequest(), Wait(SOON_S), Send(CHAT.good_answer)]
    gpu.play(slowly * 3)
    first = await ask(scene, CHAT, stream=False)
    await eventually(lambda: gpu.attempts)
    waiter = await ask(scene, CHAT, stream=False)
    await eventually(lambda: what_is_held(scene.nexus)["waiting"])

    stopping = stop(scene, drain_s=5.0)

    assert [(await client.reply()).status for client in (first, waiter)] == [200, 200]
    await stopping


async def test_a_hundred_streams_that_end_and_a_hundred_that_do_not(start, script, stop):
    short, endless = await script(), await script()
    scene = await start(short=short, endless=endless, options={"short": {"max_in_flight": 100}})
    short.play([*begun(CHAT), Wait(2.0), Send(chunks(*CHAT.events[3:]) + LAST_CHUNK)])
    endless.play([*begun(CHAT), Stall()])
    scene.nexus.fleet.registry.update(scene.backend("endless").id, max_in_flight=100)
    clients = [await ask(scene, CHAT, stream=True) for _ in range(200)]
    await busy(scene, 200)

    stopping = stop(scene, drain_s=4.0)
    replies = await asyncio.gather(*(client.reply() for client in clients))
    await stopping

    finished = [reply.looks_finished(CHAT) for reply in replies]
    assert finished.count(True) == 100
    assert all(CHAT.failure in reply.body for reply, is_good in zip(replies, finished, strict=True) if not is_good)


async def test_while_it_is_a_lame_duck_it_still_serves(start, script, stop):
    gpu = await script()
    scene = await start(gpu=gpu)
    gpu.play([ReadRequest(), Send(CHAT.good_answer)])

    stopping = stop(scene, lame_duck_s=0.3)
    await asyncio.sleep(0.05)
    probe = await scene.connect()
    probe.writer.write(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
    ready = await probe.reply()
    reply = await scene.ask(CHAT)
    await stopping

    assert (ready.status, reply.status) == (503, 200)


LISTING = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
UNKNOWN = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"
PREFLIGHT = (
    b"OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:1\r\n"
    b"Access-Control-Request-Method: GET\r\n\r\n"
)


async def begin_to_stop(scene, stop, **options):
    """Begin with a time in which idle connections stay open, and wait until nothing listens any more."""
    stopping = stop(scene, **options)
    await eventually(lambda: scene.nexus._server.grace_s is not None)
    return stopping


async def test_all_answers_of_a_lame_duck_send_the_client_elsewhere(start, script, stop):
    gpu = await script()
    scene = await start(gpu=gpu)
    gpu.play([ReadRequest(), Send(CHAT.good_answer), *ends_soon(CHAT)])
    requests = [CHAT.request(CHAT.body(stream=False)), CHAT.request(CHAT.body(stream=True))]
    requests += [CHAT.request(b"{"), LISTING, UNKNOWN, PREFLIGHT]
    clients = [await scene.connect() for _ in requests]

    stopping = stop(scene, lame_duck_s=1.0, drain_s=5.0)
    await asyncio.sleep(0)
    replies = []
    for client, request in zip(clients, requests, strict=True):
        client.writer.write(request)
        replies.append(await client.reply())
        assert await client.reader.read() == b""
    await stopping

    assert [reply.status for reply in replies] == [200, 200, 400, 200, 404, 403]
    assert [reply.headers.get("connection") for reply in replies] == ["close"] * len(replies)


async def test_requests_that_were_sent_ahead_are_all_answered(start, script, stop):
    scene = await start(gpu=await script())
    client = await scene.connect()

    stopping = stop(scene, lame_duck_s=0.2, drain_s=5.0)
    await asyncio.sleep(0)
    client.writer.write(3 * LISTING)
    replies = [await client.reply() for _ in range(3)]
    await stopping

    assert [reply.headers.get("connection") for reply in replies] == [None, None, "close"]


@pytest.mark.parametrize("was_used", [True, False], ids=["used before", "fresh"])
async def test_a_request_that_is_on_its_way_when_listening_ends_is_answered(start, script, stop, was_used):
    scene = await start(gpu=await script())
    client = await scene.connect()
    if was_used:
        client.writer.write(LISTING)
        await client.reply()

    stopping = await begin_to_stop(scene, stop, drain_s=5.0)
    client.writer.write(LISTING)
    reply = await client.reply()
    await stopping

    assert (reply.status, reply.headers["connection"]) == (200, "close")


async def test_half_a_head_is_waited_for(start, script, stop, monkeypatch):
    monkeypatch.setattr(running, "GRACE_S", SOON_S)
    scene = await start(gpu=await script())
    client = await scene.connect()
    client.writer.write(LISTING[:20])
    await client.writer.drain()

    stopping = await begin_to_stop(scene, stop, drain_s=5.0)
    await asyncio.sleep(3 * SOON_S)
    client.writer.write(LISTING[20:])
    reply = await client.reply()
    await stopping

    assert (reply.status, reply.headers["connection"]) == (200, "close")


async def test_half_a_body_is_waited_for(start, script, stop, monkeypatch):
    monkeypatch.setattr(running, "GRACE_S", SOON_S)
    gpu = await script()
    scene = await start(gpu=gpu)
    gpu.play([ReadRequest(), Send(CHAT.good_answer)])
    client = await scene.connect()
    request = CHAT.request(CHAT.body(stream=False))
    client.writer.write(request[:-5])
    await busy(scene, 1)

    stopping = await begin_to_stop(scene, stop, drain_s=5.0)
    await asyncio.sleep(3 * SOON_S)
    client.writer.write(request[-5:])
    reply = await client.reply()
    await stopping

    assert (reply.status, reply.headers["connection"]) == (200, "close")


async def test_after_a_stream_that_promised_to_stay_open_the_next_request_is_answered(start, script, stop):
    gpu = await script()
    scene = await start(gpu=gpu)
    gpu.play(ends_soon(CHAT))
    client = await ask(scene, CHAT, stream=True)
    await eventually(lambda: scene.nexus.plane.exchanges and next(iter(scene.nexus.plane.exchanges)).relay)

    stopping = await begin_to_stop(scene, stop, drain_s=5.0)
    stream = await client.reply()
    client.writer.write(LISTING)
    reply = await client.reply()
    await stopping

    assert stream.looks_finished(CHAT)
    assert "connection" not in stream.headers
    assert (reply.status, reply.headers["connection"]) == (200, "close")


async def test_a_silent_connection_is_ended_without_a_reset(start, script, stop, monkeypatch):
    monkeypatch.setattr(running, "GRACE_S", SOON_S)
    scene = await start(gpu=await script())
    client = await scene.connect()

    stopping = await begin_to_stop(scene, stop, drain_s=5.0)
    assert await client.reader.read() == b""
    # It crosses the end of the connection.
    client.writer.write(LISTING)
    await asyncio.sleep(SOON_S / 2)

    assert client.writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    await stopping


async def test_afterwards_nobody_can_connect(start, script, stop):
    scene = await start(gpu=await script())
    idle = await scene.connect()

    await stop(scene)

    assert await idle.reader.read() == b""
    with pytest.raises(ConnectionRefusedError):
        await scene.connect()


async def test_told_twice_it_still_closes_everything_in_good_order(start, script, stop):
    scene = await start(gpu=await script())
    closed = asyncio.Event()

    async def close_slowly():
        await asyncio.sleep(SOON_S)
        closed.set()

    scene.nexus._resources.push_async_callback(close_slowly)

    first = stop(scene)
    await eventually(lambda: scene.nexus._closing)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await stop(scene)

    assert closed.is_set()


async def test_told_twice_it_does_not_wait_any_longer(start, script, stop):
    gpu = await script()
    scene = await start(gpu=gpu)
    gpu.play([*begun(CHAT), Stall()])
    client = await ask(scene, CHAT, stream=True)
    await client.reader.readuntil(CHAT.events[2])

    patient = stop(scene, drain_s=60.0)
    await asyncio.sleep(0.05)
    patient.cancel()
    await asyncio.gather(patient, return_exceptions=True)
    await stop(scene, drain_s=0.0)

    assert b"server_shutdown" in await client.reader.read()
