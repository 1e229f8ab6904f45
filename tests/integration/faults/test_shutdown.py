"""Who is being served when Nexus is told to stop is served to the end, or told when the drain time is over."""

import asyncio
import json

import pytest

from nexus.testing.bookkeeping import eventually
from nexus.testing.dialects import CHAT, LAST_CHUNK, OLLAMA, chunks
from nexus.testing.inside import what_is_held
from nexus.testing.scripted import ReadRequest, Send, Stall, Wait

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
    short.play([*begun(CHAT), Wait(0.8), Send(chunks(*CHAT.events[3:]) + LAST_CHUNK)])
    endless.play([*begun(CHAT), Stall()])
    scene.nexus.fleet.registry.update(scene.backend("endless").id, max_in_flight=100)
    clients = [await ask(scene, CHAT, stream=True) for _ in range(200)]
    await busy(scene, 200)

    stopping = stop(scene, drain_s=1.5)
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


async def test_afterwards_nobody_can_connect(start, script, stop):
    scene = await start(gpu=await script())
    idle = await scene.connect()

    await stop(scene)

    assert await idle.reader.read() == b""
    with pytest.raises(ConnectionRefusedError):
        await scene.connect()


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
