"""A chunked body is the content of its chunks, and the bytes after its end are not touched."""

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.streams import StreamReader

from nexus.proxy.client.chunked_body import MAX_OVERHEAD_BYTES, ChunkedBody

NEXT = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
async def body():
    loop = asyncio.get_running_loop()
    return ChunkedBody(StreamReader(BaseProtocol(loop), 2**16, loop=loop))


def fed(body, wire, step):
    """Feed *wire* in pieces of *step* bytes; return what was not taken."""
    rest = b""
    for start in range(0, len(wire), step):
        piece = wire[start : start + step]
        rest += piece if body.is_whole else body.feed(piece)
    return rest


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 7, 1000])
@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"0\r\n\r\n", b""),
        (b"000\r\n\r\n", b""),
        (b"4\r\n\r\n\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"\r\n\r\nok"),
        (b"2;name=value\r\nok\r\n0;last\r\n\r\n", b"ok"),
        (b"2\r\nok\r\n0\r\nA: 1\r\nHost: b\r\nContent-Type: c\r\nHost: d\r\n\r\n", b"ok"),
        (b"B\r\n0\r\n\r\nGET / \r\n0\r\n\r\n", b"0\r\n\r\nGET / "),
    ],
)
async def test_a_body_ends_where_its_framing_says(body, wire, content, step):
    rest = fed(body, wire + NEXT, step)

    assert (body.is_whole, rest, await body.payload.read()) == (True, NEXT, content)


@pytest.mark.parametrize(
    "wire", [b"zz\r\n", b"2\r\nokXX", b"2\nok\r\n", b"-1\r\n", b"0x2\r\nok\r\n", b"f" * 17 + b"\r\n", b"0\r\nX\r\n\r\n"]
)
async def test_malformed_chunks_are_refused(body, wire):
    with pytest.raises(BadHttpMessage):
        body.feed(b"5\r\nhello\r\n" + wire)

    assert not body.is_whole
    assert body.payload.read_nowait().startswith(b"hello")


@pytest.mark.parametrize("wire", [b"0\r\n" + b"A: 1\r\n" * MAX_OVERHEAD_BYTES, b"2;" + b"x" * MAX_OVERHEAD_BYTES])
async def test_the_bytes_beside_the_body_are_limited(body, wire):
    with pytest.raises(BadHttpMessage, match="too many bytes"):
        fed(body, wire, 1024)


async def test_many_small_chunks_exceed_no_limit(body):
    fed(body, b"1;name=value\r\nx\r\n" * MAX_OVERHEAD_BYTES + b"0\r\n\r\n", 512)

    assert body.is_whole
