"""A client that has sent all that it will send gets every answer that it has asked for."""

import asyncio
import http.client
import re
import socket
from contextlib import closing

import pytest

from nexus.testing.waiting import eventually
from tests.support.dialects import CHAT, LAST_CHUNK, chunks, whole_answer
from tests.support.scripted import ReadRequest, Send, Stall, Wait

LATER_S = 0.3
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def all_that_comes(client):
    async with asyncio.timeout(5):
        return await client.reader.read()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("stream", [False, True])
async def test_it_gets_an_answer_that_takes_a_while(start, script, dialect, stream, version):
    backend = await script()
    scene = await start(backend=backend)
    backend.play([ReadRequest(), Wait(LATER_S), Send(dialect.good_stream if stream else dialect.good_answer)])
    client = await scene.connect()

    client.writer.write(dialect.request(dialect.body(stream=stream), version=version))
    client.writer.write_eof()
    answer = await all_that_comes(client)

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.count(b"HTTP/1.1") == 1
    assert (dialect.end if stream else dialect.whole) in answer
    assert (await scene.books.outcome()).ending == "finished"


async def test_it_gets_the_rest_of_a_stream_that_pauses(start, script, dialect):
    backend = await script()
    scene = await start(backend=backend)
    first, rest = chunks(*dialect.events[:3]), chunks(*dialect.events[3:]) + LAST_CHUNK
    backend.play([ReadRequest(), Send(dialect.stream_head() + first), Wait(LATER_S), Send(rest)])
    client = await scene.connect()
    client.send(dialect, stream=True)
    _, headers = await client.head()

    client.writer.write_eof()
    body, is_whole = await client.rest(headers)

    assert (body, is_whole) == (b"".join(dialect.events), True)
    assert await all_that_comes(client) == b""


async def test_it_gets_an_error(start, script, dialect):
    backend = await script()
    scene = await start(backend=backend)
    backend.play([ReadRequest(), Wait(LATER_S), Send(whole_answer(b"{}", status=500))])
    client = await scene.connect()

    client.send(dialect)
    client.writer.write_eof()
    answer = await all_that_comes(client)

    assert re.match(rb"HTTP/1\.1 50\d ", answer)


async def test_it_gets_all_answers_of_a_pipeline(start, script):
    backend = await script()
    scene = await start(backend=backend)
    backend.play([ReadRequest(), Wait(LATER_S), Send(CHAT.good_answer), ReadRequest(), Send(CHAT.good_answer)])
    client = await scene.connect()

    client.writer.write(HEALTH + CHAT.request(CHAT.body(stream=False)) * 2 + HEALTH + b"GET /half-a-head HT")
    client.writer.write_eof()
    answers = await all_that_comes(client)

    assert re.findall(rb"HTTP/1\.1 \d\d\d", answers) == [b"HTTP/1.1 200"] * 4


async def test_only_the_last_of_a_pipeline_suffers_from_a_body_that_ends_early(start, script):
    backend = await script()
    scene = await start(backend=backend)
    backend.play([ReadRequest(), Wait(LATER_S), Send(CHAT.good_answer)])
    client = await scene.connect()

    request = CHAT.request(CHAT.body(stream=False))
    client.writer.write(request + request[:-5])
    client.writer.write_eof()
    answers = await all_that_comes(client)

    assert re.findall(rb"HTTP/1\.1 \d\d\d", answers) == [b"HTTP/1.1 200", b"HTTP/1.1 400"]


@pytest.mark.parametrize("before", [b"", HEALTH])
async def test_it_is_told_that_its_request_is_malformed(start, script, before):
    scene = await start(backend=await script())
    client = await scene.connect()

    client.writer.write(before + b"POST nowhere HTTP/1.1\r\n\r\n")
    client.writer.write_eof()
    answers = await all_that_comes(client)

    assert re.findall(rb"HTTP/1\.1 \d\d\d", answers)[-1] == b"HTTP/1.1 400"
    assert answers.count(b"HTTP/1.1 200") == (1 if before else 0)


async def test_a_library_reads_what_was_sent_ahead(start, script):
    backend = await script()
    scene = await start(backend=backend)
    first, rest = chunks(*CHAT.events[:3]), chunks(*CHAT.events[3:]) + LAST_CHUNK
    head = CHAT.stream_head()
    backend.play([ReadRequest(), Wait(LATER_S), Send(head), Wait(LATER_S), Send(first), Wait(LATER_S), Send(rest)])

    def ask():
        with closing(http.client.HTTPConnection("127.0.0.1", scene.nexus.port, timeout=5)) as connection:
            connection.request("POST", CHAT.path, CHAT.body(stream=True), {"Content-Type": "application/json"})
            connection.sock.shutdown(socket.SHUT_WR)
            return connection.getresponse().read()

    assert await asyncio.to_thread(ask) == b"".join(CHAT.events)


async def test_an_idle_connection_is_closed_at_once(start, script):
    scene = await start(backend=await script())
    client = await scene.connect()
    client.writer.write(HEALTH)
    await client.reply()

    client.writer.write_eof()

    assert await all_that_comes(client) == b""


async def test_a_shutdown_answers_it(start, script):
    backend = await script()
    scene = await start(backend=backend)
    backend.play([ReadRequest(), Stall()])
    client = await scene.connect()
    client.send(CHAT)
    client.writer.write_eof()
    await eventually(lambda: backend.attempts and b"hello" in backend.attempts[0].received)

    await scene.nexus.stop(drain_s=0.1)
    scene.is_stopped = True

    assert (await all_that_comes(client)).startswith(b"HTTP/1.1 503 ")
