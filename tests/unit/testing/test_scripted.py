"""The scripted backend plays what it is given, and tells how each connection went."""

import asyncio

import pytest

from tests.support.scripted import Close, ReadHead, ReadRequest, Reset, ScriptedBackend, Send, Stall, Wait

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


@pytest.fixture
async def connect():
    opened = []

    async def open_connection(backend):
        reader, writer = await asyncio.open_connection("127.0.0.1", backend.port)
        opened.append(writer)
        return reader, writer

    yield open_connection
    for writer in opened:
        writer.close()


@pytest.mark.parametrize("request_bytes", [REQUEST, CHUNKED, b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_request_is_read_whole_before_the_answer(connect, request_bytes):
    async with ScriptedBackend([ReadRequest(), Send(b"bye"), Close()]) as backend:
        reader, writer = await connect(backend)
        writer.write(request_bytes[:-1])
        await asyncio.sleep(0.01)
        early = backend.attempts[0].first_byte
        writer.write(request_bytes[-1:])
        answer = await reader.read()
        await backend.ended()

    attempt = backend.attempts[0]
    assert (early, answer, attempt.received, attempt.cause) == (None, b"bye", request_bytes, "played")
    assert attempt.start <= attempt.first_byte <= attempt.end


async def test_a_head_is_answered_while_the_body_is_still_to_come(connect):
    async with ScriptedBackend([ReadHead(), Send(b"HTTP/1.1 413 X\r\n\r\n"), Close()]) as backend:
        reader, writer = await connect(backend)
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 9999\r\n\r\n")

        assert await reader.read() == b"HTTP/1.1 413 X\r\n\r\n"


async def test_what_was_sent_arrives_before_the_reset(connect):
    async with ScriptedBackend([Send(b"half"), Reset()]) as backend:
        reader, _ = await connect(backend)

        half = await reader.readexactly(4)
        with pytest.raises(ConnectionResetError):
            await reader.read()

    assert half == b"half"


@pytest.mark.parametrize("step", [Stall(), Wait(5), ReadRequest()])
async def test_a_client_that_leaves_ends_the_script(connect, step):
    async with ScriptedBackend([step, Send(b"never")]) as backend:
        _, writer = await connect(backend)
        await asyncio.sleep(0.01)
        open_before = backend.open_connections
        writer.close()
        await backend.ended()

    assert (open_before, backend.open_connections) == (1, 0)
    assert (backend.attempts[0].cause, backend.attempts[0].first_byte) == ("client_left", None)


async def test_a_script_that_does_not_close_waits_for_the_client(connect):
    async with ScriptedBackend([Wait(0.01), Send(b"hello")]) as backend:
        reader, _ = await connect(backend)
        await reader.readexactly(5)
        still_open = backend.open_connections

    assert still_open == 1
    assert backend.attempts[0].cause == "stopped"


async def test_each_connection_has_its_script_and_the_last_is_repeated(connect):
    async with ScriptedBackend([Send(b"1"), Close()], [Send(b"2"), Close()]) as backend:
        said = [await (await connect(backend))[0].read() for _ in range(3)]

    assert said == [b"1", b"2", b"2"]
