"""Each request is found where it begins and ends, and takes nothing from the one before."""

import asyncio
from inspect import iscoroutine

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError

from nexus.proxy.client.request_reader import READ_BUFFER_BYTES, RequestReader, WholeBody

CHUNKED = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
SIZED = b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"
PLAIN = b"GET /c HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
async def reader():
    loop = asyncio.get_running_loop()
    return RequestReader(BaseProtocol(loop), loop)


async def found_in(reader, *pieces):
    """Feed *pieces*, and return path, headers and body of each request."""
    requests = []
    for piece in pieces:
        rest = piece
        while rest:
            request, rest = reader.feed(rest)
            requests += [request] if request is not None else []
    return [(message.path, message.raw_headers, await read(payload)) for message, payload, _ in requests]


async def read(payload):
    if not payload.is_eof():
        return None
    body = payload.read_nowait()
    return await body if iscoroutine(body) else body


@pytest.mark.parametrize(
    "trailer", [b"Authorization: Bearer x", b"Host: b", b"Content-Encoding: gzip", b"X-Nexus-Hops: 9", b"A: 1\r\nB: 2"]
)
@pytest.mark.parametrize("following", [SIZED, PLAIN, CHUNKED + b"\r\n"], ids=["sized", "plain", "chunked"])
@pytest.mark.parametrize("step", [1, 10, 1000])
async def test_a_trailer_is_no_header_of_the_next_request(reader, trailer, following, step):
    whole = CHUNKED + trailer + b"\r\n\r\n" + following
    alone = await found_in(RequestReader(reader._protocol, reader._loop), following)

    requests = await found_in(reader, *(whole[start : start + step] for start in range(0, len(whole), step)))

    assert requests[1:] == alone
    assert (reader.unfinished, reader._parser) == (None, None)


async def test_requests_of_any_framing_follow_one_another(reader):
    requests = await found_in(reader, SIZED + CHUNKED + b"\r\n" + SIZED + PLAIN + b"\r\n" + SIZED)

    assert [(path, body) for path, _, body in requests] == [
        ("/b", b"ok"),
        ("/a", b"ok"),
        ("/b", b"ok"),
        ("/c", b""),
        ("/b", b"ok"),
    ]


async def test_a_length_may_begin_with_any_number_of_zeros(reader):
    requests = await found_in(reader, SIZED.replace(b" 2\r\n", b" " + b"0" * 5000 + b"2\r\n") + SIZED)

    assert [(path, body) for path, _, body in requests] == [("/b", b"ok"), ("/b", b"ok")]


async def test_requests_follow_an_ignored_offer_to_upgrade(reader):
    offer = PLAIN[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

    requests = await found_in(reader, offer + SIZED)

    assert [path for path, _, _ in requests] == ["/c", "/b"]


@pytest.mark.parametrize("wire", [b"HEAD /\x01 HTTP/1.1\r\n", b"\r\nHEAD / HTTP/9\r\n\r\n"])
@pytest.mark.parametrize("step", [1, 1000])
async def test_a_malformed_request_is_recognised_as_head(reader, wire, step):
    with pytest.raises(HttpProcessingError):
        await found_in(reader, SIZED, *(wire[start : start + step] for start in range(0, len(wire), step)))

    assert reader.is_head_method


async def test_any_other_malformed_request_is_not_head(reader):
    with pytest.raises(HttpProcessingError):
        await found_in(reader, PLAIN.replace(b"GET", b"HEAD"), b"GET /\x01 HTTP/1.1\r\n")

    assert not reader.is_head_method


@pytest.mark.parametrize("empty", [b"\r\n", b"\r\n\r\n", b"\n", b"\r\n" * 200_000])
async def test_empty_lines_before_a_request_are_skipped(reader, empty):
    requests = await found_in(reader, empty + SIZED, empty, PLAIN[:20], PLAIN[20:])

    assert [path for path, _, _ in requests] == ["/b", "/c"]


@pytest.mark.parametrize("size", [1, READ_BUFFER_BYTES, READ_BUFFER_BYTES + 1])
@pytest.mark.parametrize("missing", [0, 1])
async def test_only_a_small_body_that_has_arrived_is_kept_without_a_stream(reader, size, missing):
    head = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size

    request, rest = reader.feed(head + b"x" * (size - missing))
    while rest:
        _, rest = reader.feed(rest)

    assert isinstance(request.body, WholeBody) is (not missing and size <= READ_BUFFER_BYTES)
    assert (request.length, request.body.is_eof()) == (size, not missing)


async def test_a_body_that_has_arrived_does_not_take_the_next_request(reader):
    requests = await found_in(reader, SIZED + SIZED)

    assert [body for _, _, body in requests] == [b"ok", b"ok"]


LONGER = b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nall is well!"


async def test_a_head_that_comes_again_with_another_length_is_not_parsed_again(reader):
    (first, rest), (second, _) = reader.feed(SIZED), reader.feed(LONGER[:-5])

    assert (rest, second.message is first.message, second.length) == (b"", True, 12)
    assert reader.feed(LONGER[-5:]) == (None, b"")
    assert second.body.read_nowait() == b"all is well!"


@pytest.mark.parametrize(
    "head",
    [
        LONGER.replace(b"12", b"1x"),
        LONGER.replace(b"12", b" 12"),
        LONGER.replace(b"12", b"0" * 20 + b"12"),
        LONGER.replace(b"12", b"12\r\nContent-Length: 12"),
        LONGER.replace(b"12", b"12\r\nTransfer-Encoding: chunked"),
        LONGER.replace(b"12", b"12\r\nA: b"),
        LONGER.replace(b"/b", b"/c"),
        LONGER.replace(b"Host", b"host"),
        LONGER.replace(b"12\r\n", b"12\n"),
    ],
)
async def test_any_other_head_is_parsed(reader, head):
    alone = RequestReader(reader._protocol, reader._loop)
    reader.feed(SIZED)

    assert outcome(reader, head) == outcome(alone, head)


async def test_a_head_in_pieces_is_not_known_by_its_last_one(reader):
    odd = b"POST /b HTTP/1.1\r\nA: POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    at = odd.index(b"POST /c")

    reader.feed(odd[:at])
    reader.feed(odd[at:])

    request, _ = reader.feed(odd[at:])
    assert request.message.path == "/c"


def outcome(reader, data):
    try:
        request, rest = reader.feed(data)
    except HttpProcessingError as exc:
        return type(exc)
    return request and (request.message.path, request.message.raw_headers, request.length, rest)
