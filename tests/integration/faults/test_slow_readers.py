"""A client that reads slowly slows its backend down; one that stops reading is given up."""

import asyncio
import os
from pathlib import Path

import pytest

from nexus.testing.waiting import eventually
from tests.support.dialects import CHAT, LAST_CHUNK, chunks, whole_answer
from tests.support.scripted import ReadRequest, Send

SMALL_BUFFER = 4096
FLOOD = CHAT.stream_head() + chunks(*CHAT.events[:3])
EVENT = CHAT.events[2]
PIECE = chunks(*[EVENT] * 200)
PATIENT = {"stall_s": 0.25}


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def begin(scene, backend, *steps, stream=True):
    """Let a client read the head of the answer, and then no more than its reader takes unasked."""
    backend.play([ReadRequest(), *steps])
    client = await scene.connect(receive_buffer=SMALL_BUFFER)
    client.send(CHAT, stream=stream)
    await client.head()
    return client


async def read_to_the_end(client):
    """Read a stream up to its last chunk, and return how many bytes that were."""
    count, tail = 0, b""
    while not tail.endswith(LAST_CHUNK):
        piece = await client.reader.read(65536)
        assert piece
        count, tail = count + len(piece), (tail + piece)[-len(LAST_CHUNK) :]
    return count


async def test_a_client_that_stops_reading_is_given_up(start, script):
    backend = await script()
    scene = await start(backend=backend, settings=PATIENT)

    await begin(scene, backend, Send(FLOOD), *[Send(PIECE)] * 1000)

    outcome = await scene.books.outcome()
    assert (outcome.ending, outcome.termination) == ("client_stalled", "cD")
    assert 0.2 < outcome.duration_s < 1.5
    await eventually(lambda: not backend.open_connections)
    assert backend.attempts[0].cause == "client_left"
    assert scene.backend("backend").breaker == "closed"


async def test_its_backend_is_slowed_down_and_little_is_kept(start, script):
    backend = await script()
    scene = await start(backend=backend, settings={"stall_s": 5.0})
    before = resident_bytes()

    clients = [await begin(scene, backend, Send(FLOOD), *[Send(PIECE)] * 1000) for _ in range(10)]
    await asyncio.sleep(0.3)

    held = [exchange.client.transport.get_write_buffer_size() for exchange in scene.nexus.plane.exchanges]
    assert len(held) == 10
    assert max(held) < 2**20
    assert resident_bytes() - before < 64 * 2**20
    for client in clients:
        client.reset()


async def test_a_client_that_reads_slowly_gets_everything(start, script):
    backend = await script()
    scene = await start(backend=backend, settings=PATIENT)
    steps = [Send(PIECE)] * 40
    client = await begin(scene, backend, Send(FLOOD), *steps, Send(chunks(*CHAT.events[3:]) + LAST_CHUNK))

    received = 0
    for _ in range(12):
        await asyncio.sleep(0.05)
        received += len(await client.reader.read(60_000))
    received += await read_to_the_end(client)

    assert received > 40 * 200 * len(EVENT)
    assert (await scene.books.outcome()).ending == "finished"


async def test_a_connection_that_was_slowed_down_serves_the_next_request(start, script):
    backend = await script()
    scene = await start(backend=backend)
    # All of it, its end included, comes before the client has read anything.
    stream = FLOOD + PIECE * 12 + chunks(*CHAT.events[3:]) + LAST_CHUNK
    client = await begin(scene, backend, Send(stream), ReadRequest(), Send(CHAT.good_answer))
    await asyncio.sleep(0.1)
    await read_to_the_end(client)
    await scene.books.outcome()

    reply = await scene.ask(CHAT)

    assert reply.status == 200
    assert len(backend.attempts) in (1, 2)


@pytest.mark.parametrize("size", [7_500_000, 20_000_000], ids=["held back", "passed on"])
async def test_a_whole_answer_that_nobody_reads_is_given_up(start, script, size):
    backend = await script()
    scene = await start(backend=backend, settings=PATIENT)
    body = b'{"text":"' + b"x" * size + b'"}'

    await begin(scene, backend, Send(whole_answer(body)), stream=False)

    outcome = await scene.books.outcome()
    assert (outcome.ending, outcome.termination) == ("client_stalled", "cD")


async def test_a_whole_answer_that_is_read_slowly_arrives(start, script):
    backend = await script()
    scene = await start(backend=backend, settings=PATIENT)
    body = b'{"text":"' + b"x" * 6_000_000 + b'"}'
    client = await begin(scene, backend, Send(whole_answer(body)), stream=False)

    received = 0
    while received < len(body):
        piece = await client.reader.read(400_000)
        assert piece, received
        received += len(piece)
        await asyncio.sleep(0.02)

    assert (await scene.books.outcome()).ending == "finished"


async def test_a_stream_that_is_cut_before_a_deaf_client_is_closed_all_the_same(start, script):
    backend = await script()
    scene = await start(backend=backend, settings={"stall_s": 0.5, "stream_s": 0.3})

    await begin(scene, backend, Send(FLOOD), *[Send(PIECE)] * 1000)

    outcome = await scene.books.outcome()
    assert outcome.code == "deadline_exceeded"
    await eventually(lambda: not scene.nexus._server.connections, lambda: "the client is still there")


async def test_the_backend_is_free_for_others_while_a_client_takes_its_time(start, script):
    backend = await script()
    scene = await start(backend=backend, options={"backend": {"max_in_flight": 1}})
    long_answer = whole_answer(b'{"text":"' + b"x" * 7_500_000 + b'"}')
    steps = [Send(long_answer), ReadRequest(), Send(CHAT.good_answer)]
    slow = await begin(scene, backend, *steps, stream=False)

    reply = await scene.ask(CHAT)
    under_way = [exchange.client.remote for exchange in scene.nexus.plane.exchanges]

    assert reply.status == 200
    assert len(under_way) == 1
    assert len(backend.attempts) == 1, "its connection serves the next request too"
    slow.reset()


async def test_an_answer_that_its_client_leaves_half_taken_is_not_finished(start, script):
    backend = await script()
    scene = await start(backend=backend)
    client = await begin(scene, backend, Send(whole_answer(b'{"text":"' + b"x" * 7_500_000 + b'"}')), stream=False)

    await eventually(lambda: not scene.backend("backend").load.in_flight)
    client.reset()
    outcome = await scene.books.outcome()

    assert (outcome.ending, outcome.termination, outcome.status) == ("client_left", "CD", 200)
    assert 0 < outcome.bytes_out < 7_500_000
    assert outcome.attempts[0].ending == "finished"
