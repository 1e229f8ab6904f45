"""What a connection remembers of its last request with a length, and which bytes begin such a request again."""

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from aiohttp.streams import StreamReader

from nexus.proxy.client.known_head import LONGEST_HEAD, HeadBytes, SizedBody, WholeBody

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nX-Last: 1\r\n\r\n"
WIRE = HEAD % 5 + b"hello"
CHUNKED = WIRE[:-5].replace(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"


@pytest.fixture
async def heads():
    """A memory with a way to teach it what the parser has read."""
    loop = asyncio.get_running_loop()

    class Taught(HeadBytes):
        def read(self, *wires):
            for wire in wires:
                parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16, max_field_size=2**16)
                head = wire[: wire.index(b"\r\n\r\n") + 4]
                self.learn(head, parser.feed_data(head)[0][0][0])

    return Taught()


async def test_nothing_is_known_at_first(heads):
    assert heads.known(WIRE) is None


async def test_the_last_head_is_known_again_with_any_length(heads):
    heads.read(WIRE)

    message, length, start = heads.known(HEAD % 123 + b"other")

    assert (message.path, length, start) == ("/v1/chat/completions", 123, len(HEAD % 123))


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(WIRE.replace(b"Host: a", b"Host: b"), id="another value"),
        pytest.param(WIRE.replace(b"X-Last", b"X-Lost"), id="another name"),
        pytest.param(WIRE.replace(b"X-Last: 1", b"X-Last: 1\r\nX-More: 1"), id="one more"),
        pytest.param(WIRE.replace(b": 5", b": +5"), id="a signed length"),
        pytest.param(WIRE.replace(b": 5", b": 5 "), id="a length with a space"),
        pytest.param(WIRE.replace(b": 5", b": "), id="no length"),
        pytest.param(WIRE.replace(b": 5", b": 0x5"), id="a hexadecimal length"),
        pytest.param(WIRE.replace(b": 5", b": " + b"1" * 13), id="a very long length"),
        pytest.param(WIRE.replace(b": 5", b": \xd9\xa5"), id="digits of another script"),
        pytest.param(WIRE[:30], id="half a head"),
        pytest.param(b"", id="nothing"),
    ],
)
async def test_another_head_is_not_known(heads, wire):
    heads.read(WIRE)

    assert heads.known(wire) is None


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n", id="no length"),
        pytest.param(CHUNKED, id="chunked"),
        pytest.param(WIRE.replace(b"HTTP/1.1", b"HTTP/1.0"), id="an older version"),
        pytest.param(WIRE.replace(b"X-Last: 1", b"Connection: upgrade\r\nUpgrade: h2c"), id="an upgrade"),
        pytest.param(b"\r\n" + WIRE, id="an empty line before it"),
        pytest.param(WIRE.replace(b"X-Last: 1", b"X-Last: " + b"1" * LONGEST_HEAD), id="a long one"),
    ],
)
async def test_another_request_takes_nothing_from_what_is_known(heads, wire):
    heads.read(WIRE, wire)

    assert heads.known(WIRE) is not None
    assert heads.known(wire) is None


@pytest.mark.parametrize("step", [1, 2, 3, 5, 100])
async def test_a_body_of_known_length_takes_its_bytes_and_no_more(step):
    loop = asyncio.get_running_loop()
    reader = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
    body, wire, rest = SizedBody(reader, 5), b"hello, next", b""

    for start in range(0, len(wire), step):
        piece = wire[start : start + step]
        rest += body.feed(piece) if body.left else piece

    assert (await reader.read(), rest) == (b"hello", b", next")


def test_a_whole_body_is_given_away_once():
    body = WholeBody(b"hello")

    assert (body.is_eof(), body.read_nowait(), body.read_nowait()) == (True, b"hello", b"")
