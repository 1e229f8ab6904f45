"""Clients of another age or manner: HTTP/1.0, half-closed connections, encoded bodies."""

import pytest
from backports import zstd

from nexus.simulator import Cut
from tests.support.dialects import CHAT, DIALECTS, whole_answer
from tests.support.scripted import ReadRequest, Send


@pytest.mark.parametrize("headers", ["", "Connection: keep-alive\r\n", "Connection: close\r\n"])
async def test_an_http_1_0_client_gets_one_whole_answer_and_the_end(front, chat, headers):
    replies = await front.all_replies(chat(headers=headers, version="1.0"))

    assert [(reply.status, reply.is_whole) for reply in replies] == [(200, True)]
    assert replies[0].headers["connection"] == "close"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
async def test_an_http_1_0_client_gets_a_stream_without_chunks(start_front, dialect):
    front = await start_front(kind=dialect.kind)

    [reply] = await front.all_replies(dialect.request(dialect.body(stream=True), version="1.0"))

    assert reply.status == 200
    assert "transfer-encoding" not in reply.headers
    assert "content-length" not in reply.headers
    assert reply.headers["connection"] == "close"
    assert reply.body.startswith((b"data: ", b"event: ", b"{"))
    assert dialect.end in reply.body


async def test_an_http_1_0_client_is_told_that_its_stream_was_cut(front):
    front.backend.faults.set(Cut(after_events=3, times=1))

    [reply] = await front.all_replies(CHAT.request(CHAT.body(stream=True), version="1.0"))

    assert CHAT.failure in reply.body
    assert CHAT.end not in reply.body


async def test_an_http_1_0_client_needs_no_host(front, raw, get):
    replies = await front.all_replies(get("/health").replace(b"Host: localhost\r\n", b"").replace(b"1.1", b"1.0"))

    assert [reply.status for reply in replies] == [200]


async def test_an_error_ends_the_connection_of_an_http_1_0_client(front, chat):
    wire = chat(model="nobody-has-this", headers="Connection: keep-alive\r\n", version="1.0")

    [reply] = await front.all_replies(wire)

    assert (reply.status, reply.code, reply.headers["connection"]) == (404, "model_not_found", "close")


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, identity", "zstd, gzip"])
async def test_a_body_of_an_unknown_coding_is_refused_unread(front, raw, coding):
    await front.refuses(
        raw(f"Content-Encoding: {coding}", "Content-Length: 50000000"),
        status=415,
        code="unsupported_content_encoding",
    )


async def test_a_body_that_is_encoded_by_nothing_is_taken(front, chat):
    assert (await front.ask(chat(headers="Content-Encoding: identity\r\n"))).status == 200


async def test_a_backend_gets_a_compressed_body_decoded(front):
    plain = CHAT.body(stream=False)

    reply = await front.ask(CHAT.request(zstd.compress(plain), headers="Content-Encoding: zstd\r\n"))

    assert reply.status == 200
    assert front.asked[-1].body == plain
    assert not front.asked[-1].header("Content-Encoding")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_encoded_answer_passes_as_it_is(start_front, stream):
    encoded = bytes(range(256)) * 4
    answer = whole_answer(encoded, headers="Content-Encoding: zstd\r\nVary: Accept-Encoding\r\n")
    front = await start_front([ReadRequest(), Send(answer)])

    reply = await front.ask(CHAT.request(CHAT.body(stream=stream), headers="Accept-Encoding: zstd\r\n"))

    assert (reply.status, reply.headers["content-encoding"], reply.body) == (200, "zstd", encoded)
    assert reply.headers["vary"] == "Accept-Encoding"
