"""What a connection knows again of its last request, and when it knows nothing any more."""

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser

from nexus.proxy.known_head import HeadBytes, WholeBody

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nX-Last: 1\r\n\r\n"
WIRE = HEAD % 5 + b"hello"
CHUNKED = WIRE[:-5].replace(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"


@pytest.fixture
async def parse():
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    parser = HttpRequestParser(protocol, loop, 2**16)
    protocol._parser = parser
    return lambda data: parser.feed_data(data)[0]


@pytest.fixture
def heads(parse):
    """A memory with a way to feed it what the parser has read."""

    class Fed(HeadBytes):
        def read(self, *pieces):
            for piece in pieces:
                self.was_parsed(piece, parse(piece))

    return Fed()


async def test_nothing_is_known_at_first(heads):
    assert heads.known(WIRE) is None


@pytest.mark.parametrize(
    "pieces", [(WIRE,), (WIRE[:20], WIRE[20:]), (WIRE[:-3], WIRE[-3:]), tuple(map(bytes, zip(WIRE)))]
)
async def test_the_last_head_is_known_again_with_any_length(heads, pieces):
    heads.read(*pieces)

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


async def test_what_the_parser_is_in_the_middle_of_is_no_head(heads):
    heads.read(WIRE, HEAD % 500 + WIRE)

    assert heads.known(WIRE) is None
    heads.read(b"x" * (500 - len(WIRE)))
    assert heads.known(WIRE) is not None


async def test_nor_is_what_follows_half_a_head(heads):
    heads.read(WIRE, WIRE[:20])

    assert heads.known(WIRE) is None


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(
            WIRE.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked")[:-5] + b"0\r\n\r\n", id="chunked"
        ),
        pytest.param(WIRE + WIRE, id="two at once"),
        pytest.param(WIRE + WIRE[:9], id="one and a bit"),
    ],
)
async def test_after_what_does_not_plainly_tell_its_end_nothing_is_known(heads, wire):
    heads.read(WIRE, wire)

    assert heads.known(WIRE) is None


async def test_a_request_without_a_body_takes_nothing_from_what_is_known(heads):
    heads.read(WIRE, b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n")

    assert heads.known(WIRE) is not None


def test_a_whole_body_is_given_away_once():
    body = WholeBody(b"hello")

    assert (body.is_eof(), body.read_nowait(), body.read_nowait()) == (True, b"hello", b"")
