"""What an answer is decides what becomes of it: not its label, and not what was asked for."""

import json
from time import monotonic

import pytest

from tests.support.dialects import CHAT, LAST_CHUNK, OLLAMA, chunks, whole_answer
from tests.support.scripted import Close, ReadRequest, Send, Wait

BEGUN = 3
"""Events after which every stream has said something."""


def error_in(dialect, body):
    """Return the code of the error that ends a stream."""
    last = body.strip().rsplit(b"\n", 1)[-1].removeprefix(b"data: ")
    document = json.loads(last)
    return document["code"] if dialect is OLLAMA else document["error"]["code"]


ERRORS = {
    "one line": b'{"error":{"message":"boom","type":"server_error"}}',
    "printed, its id first": b'{\n  "id": "x",\n  "created": 1,\n  "error": {"message": "boom"}\n}',
    "a text": b'{"error":"boom"}',
    "flat": b'{"object":"error","message":"boom","type":"InternalServerError","param":null,"code":500}',
    "anthropic": b'{"type":"error","error":{"type":"overloaded_error","message":"boom"}}',
    "fastapi": b'{"detail":"boom"}',
}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("error", ERRORS)
async def test_an_error_that_calls_itself_a_success_is_tried_elsewhere(start, script, dialect, error, stream):
    broken, steady = await script(), await script()
    scene = await start(broken=broken, steady=steady)
    broken.play([ReadRequest(), Send(whole_answer(ERRORS[error]))])
    steady.play([ReadRequest(), Send(dialect.good_stream if stream else dialect.good_answer)])

    reply = await scene.ask(dialect, stream=stream)

    assert (reply.status, reply.headers["x-nexus-backend"]) == (200, "steady")
    assert reply.body == (b"".join(dialect.events) if stream else dialect.whole)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_an_error_that_is_the_clients_own_is_passed_on_with_its_status(start, script, dialect, stream):
    strict = await script()
    scene = await start(strict=strict)
    error = b'{"error":{"message":"no such tool","type":"invalid_request_error"}}'
    strict.play([ReadRequest(), Send(whole_answer(error))])

    reply = await scene.ask(dialect, stream=stream)

    assert (reply.status, reply.body) == (400, error)


LABELS = ["application/json", "text/plain; charset=utf-8", "application/octet-stream", ""]


@pytest.mark.parametrize("label", LABELS)
async def test_a_stream_is_one_under_any_label(start, script, dialect, label):
    strange = await script()
    scene = await start(strange=strange)
    type_line = f"Content-Type: {label}\r\n".encode() if label else b""
    head = b"HTTP/1.1 200 OK\r\n" + type_line + b"Transfer-Encoding: chunked\r\n\r\n"
    rest = chunks(*dialect.events[BEGUN:]) + LAST_CHUNK
    strange.play([ReadRequest(), Send(head + chunks(*dialect.events[:BEGUN])), Wait(0.3), Send(rest)])
    client = await scene.connect()
    client.send(dialect, stream=True)
    began = monotonic()

    await client.reader.readuntil(b"Hel")
    begun_after_s = monotonic() - began
    reply = await client.reader.readuntil(LAST_CHUNK)

    assert begun_after_s < 0.25
    assert dialect.end in reply


@pytest.mark.parametrize("label", LABELS)
async def test_under_any_label_it_gets_its_right_type_and_its_end(start, script, dialect, label):
    broken = await script()
    scene = await start(broken=broken)
    type_line = f"Content-Type: {label}\r\n".encode() if label else b""
    head = b"HTTP/1.1 200 OK\r\n" + type_line + b"Transfer-Encoding: chunked\r\n\r\n"
    broken.play([ReadRequest(), Send(head + chunks(*dialect.events[:3])), Close()])

    reply = await scene.ask(dialect, stream=True)

    assert reply.headers["content-type"].encode() == dialect.stream_type
    assert error_in(dialect, reply.body) == "stream_truncated"


async def test_a_stream_that_was_not_asked_for_is_collected(start, script, dialect):
    eager = await script()
    scene = await start(eager=eager)
    eager.play([ReadRequest(), Send(dialect.good_stream)])

    reply = await scene.ask(dialect)

    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    document = json.loads(reply.body)
    assert "Hello" in reply.body.decode() or document["object"] == "response"


async def test_one_that_does_not_end_is_tried_elsewhere(start, script, dialect):
    eager, steady = await script(), await script()
    scene = await start(eager=eager, steady=steady)
    eager.play([ReadRequest(), Send(dialect.stream_head() + chunks(*dialect.events[:-2]) + LAST_CHUNK)])
    steady.play([ReadRequest(), Send(dialect.good_answer)])

    reply = await scene.ask(dialect)

    assert (reply.status, reply.headers["x-nexus-backend"], reply.body) == (200, "steady", dialect.whole)


async def test_a_client_that_reads_streams_gets_it_as_it_is(start, script):
    eager = await script()
    scene = await start(eager=eager)
    eager.play([ReadRequest(), Send(CHAT.good_stream)])
    client = await scene.connect()

    client.writer.write(CHAT.request(CHAT.body(stream=False), headers="Accept: text/event-stream\r\n"))
    reply = await client.reply()

    assert reply.body == b"".join(CHAT.events)


async def test_a_document_answers_a_request_for_a_stream_as_one(start, script, dialect):
    plain = await script()
    scene = await start(plain=plain)
    plain.play([ReadRequest(), Send(dialect.good_answer)])

    reply = await scene.ask(dialect, stream=True)

    if dialect is OLLAMA:
        assert (reply.body, reply.headers["content-type"]) == (dialect.whole, "application/json")
    else:
        assert reply.looks_finished(dialect)
        assert reply.headers["content-type"].encode() == dialect.stream_type


async def test_a_compressed_answer_is_left_alone(start, script, dialect):
    odd = await script()
    scene = await start(odd=odd)
    body = b"\x1f\x8b data: {} "
    odd.play([ReadRequest(), Send(whole_answer(body, headers="Content-Encoding: gzip\r\n"))])

    reply = await scene.ask(dialect, stream=True)

    assert (reply.body, reply.headers["content-encoding"]) == (body, "gzip")
