"""Requests whose length two readers could understand in two ways: one error, no backend asked, connection closed."""

import asyncio

import pytest

from tests.support.dialects import CHAT

BODY = CHAT.body(stream=False)
CHUNKED_BODY = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    "lines",
    [
        (LENGTH, CHUNKED),
        (CHUNKED, LENGTH),
        (LENGTH, LENGTH),
        (LENGTH, "Content-Length: 5"),
        ("Content-Length: +5",),
        ("Content-Length: -1",),
        ("Content-Length: 1_0",),
        ("Content-Length: 0x5",),
        ("Content-Length: 5, 5",),
        ("Content-Length:",),
        ("Content-Length: 99999999999999999999",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: identity",),
        ("Transfer-Encoding: gzip",),
        ("Transfer-Encoding:",),
        ("Transfer-Encoding: \x0bchunked",),
        (CHUNKED, CHUNKED),
        ("Transfer-Encoding:", " chunked"),
        ("Transfer-Encoding : chunked",),
        ("Content-Length : 5",),
        ("Transfer-Encoding: chunked\rX: y",),
    ],
    ids=repr,
)
async def test_an_ambiguous_length_is_refused(front, raw, lines):
    await front.refuses(raw(*lines, body=CHUNKED_BODY), status=400, code="bad_request")


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity, chunked", "deflate, chunked"])
async def test_a_transfer_coding_that_nobody_undoes_is_refused(front, raw, coding):
    await front.refuses(raw(f"Transfer-Encoding: {coding}", body=CHUNKED_BODY), status=501, code="transfer_coding")


async def test_http_1_0_has_no_transfer_codings(front, raw):
    await front.refuses(raw(CHUNKED, body=CHUNKED_BODY, version="HTTP/1.0"), status=400, code="bad_request")


@pytest.mark.parametrize(
    ("version", "status", "code"),
    [
        ("HTTP/0.9", 505, "http_version"),
        ("HTTP/2.0", 505, "http_version"),
        ("HTTP/1.2", 400, "bad_request"),
        ("HTTP/1.10", 400, "bad_request"),
        ("HTTP/3.0", 400, "bad_request"),
        ("http/1.1", 400, "bad_request"),
        ("ICY/1.1", 400, "bad_request"),
    ],
)
async def test_another_version_of_http_is_refused(front, raw, version, status, code):
    await front.refuses(raw(LENGTH, body=BODY, version=version), status=status, code=code)


async def test_a_request_line_without_a_version_is_refused(front):
    await front.refuses(b"GET /health\r\n\r\n", status=505, code="http_version")


@pytest.mark.parametrize(
    "wire",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"GET /health HTTP/1.1\nHost: localhost\n\n",
        b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n\r\n",
    ],
    ids=["TLS", "HTTP/2", "bytes", "bare LF", "CONNECT"],
)
async def test_what_is_no_request_is_refused(front, wire):
    await front.refuses(wire, status=400, code="bad_request")


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"5 \r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhelloXX",
        b"fffffffffffffffff\r\n",
        b"0x5\r\nhello\r\n",
    ],
    ids=repr,
)
@pytest.mark.parametrize("arrives", ["at once", "later"])
async def test_a_broken_chunk_is_refused_at_once(front, raw, chunks, arrives):
    head = raw(CHUNKED)
    parts = [head + b"2\r\n{}\r\n" + chunks] if arrives == "at once" else [head, b"2\r\n{}\r\n", chunks]

    await asyncio.wait_for(front.refuses(*parts, status=400, code="bad_request"), 2.0)


@pytest.mark.parametrize("end", [b"XX", b"\r\n-0\r\n\r\n", b"\r\n0\r\nX\r\n\r\n"], ids=repr)
@pytest.mark.parametrize("arrives", ["at once", "later"])
async def test_a_body_that_breaks_behind_what_looks_whole_reaches_nobody(front, raw, end, arrives):
    head, body = raw(CHUNKED), b"%x\r\n%b" % (len(BODY), BODY)
    parts = [head + body + end] if arrives == "at once" else [head, body + end]

    await front.refuses(*parts, status=400, code="bad_request")


async def test_trailers_are_not_taken_for_headers(front, raw, canary):
    trailer = f"Authorization: Bearer {canary}\r\nX-Nexus-Strict: true\r\nHost: evil.example\r\n\r\n".encode()

    reply = await front.ask(raw(CHUNKED, body=CHUNKED_BODY[:-2] + trailer))

    assert reply.status == 200
    [asked] = front.asked
    assert asked.body == BODY
    assert (asked.header("Authorization"), asked.header("X-Nexus-Strict")) == ("", "")
    assert asked.header("Host") == front.backend.url.removeprefix("http://")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/admin/backends"])
async def test_a_key_in_a_trailer_opens_nothing_to_the_next_request(start_front, raw, get, keyed, key, path):
    front = await start_front(server=keyed)
    trailer = f"X-Other: 1\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    with_trailer = raw(CHUNKED, f"Authorization: Bearer {key}", body=CHUNKED_BODY[:-2] + trailer)
    without_key = get(path) if path.startswith("/admin") else raw(LENGTH, body=BODY)
    client = await front.connect()

    client.writer.write(with_trailer + without_key + with_trailer)
    replies = [await client.reply() for _ in range(2)]
    client.writer.write(without_key)
    replies += [await client.reply() for _ in range(2)]

    assert [reply.status for reply in replies] == [200, 401, 200, 401]


@pytest.mark.parametrize(
    "trailer",
    ["Host: evil.example", "Origin: http://evil.example", "Content-Encoding: gzip", "X-Nexus-Hops: 9", "X: 1"],
)
async def test_a_trailer_changes_nothing_for_the_next_request(front, raw, chat, trailer):
    with_trailers = raw(CHUNKED, body=CHUNKED_BODY[:-2] + f"{trailer}\r\n{trailer}\r\n\r\n".encode())
    client = await front.connect()

    following = chat(headers="X-Request-Id: mine\r\n")
    client.writer.write(with_trailers + following)
    replies = [await client.reply() for _ in range(2)]
    client.writer.write(following)
    replies.append(await client.reply())

    assert [reply.status for reply in replies] == [200, 200, 200]
    assert front.asked[1].raw_headers == front.asked[2].raw_headers


async def test_requests_before_a_malformed_one_are_answered(front, chat):
    replies = await front.all_replies(chat() * 3 + b"POST nowhere HTTP/1.1\r\n\r\n" + chat())

    assert [reply.status for reply in replies] == [200, 200, 200, 400]


async def test_what_comes_behind_a_malformed_request_costs_no_answer(front, chat):
    client = await front.connect()

    client.writer.write(chat() + b"\0" + b"x" * 1_000_000)
    for _ in range(20):
        client.writer.write(b"x" * 10_000)
        await asyncio.sleep(0.002)
    replies = [await client.reply() for _ in range(2)]

    assert [reply.status for reply in replies] == [200, 400]


async def test_a_pipeline_longer_than_what_may_wait_is_answered_to_its_end(front, get, chat):
    pipeline = get("/health") * 100 + b"\0"

    replies = await front.all_replies(pipeline)

    assert [reply.status for reply in replies] == [200] * 100 + [400]


@pytest.mark.parametrize(
    "version", ["HTTP/1.1\r\nHost: localhost\r\n bad", "HTTP/9.9", "HTTP/1.1\r\nHost: a\r\nHost: b"]
)
async def test_the_error_of_a_malformed_head_request_has_no_body(front, get, version):
    client = await front.connect()

    client.writer.write(get("/health") + f"HEAD /health {version}\r\n\r\n".encode())
    await client.reply()
    status, headers = await client.head()
    rest = await client.reader.read()

    assert (status, rest) == (400, b"")
    assert int(headers["content-length"]) > 0


@pytest.mark.parametrize("trailer", ["Content-Length: 5", CHUNKED])
async def test_a_trailer_cannot_change_the_framing(front, raw, trailer):
    wire = raw(CHUNKED, body=CHUNKED_BODY[:-2] + f"{trailer}\r\n\r\n".encode())

    await front.refuses(wire, status=400, code="bad_request")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "PUT"])
async def test_a_request_in_the_body_of_another_is_a_body(front, raw, chat, method):
    inner = chat()
    client = await front.connect()

    # At a path that takes nothing but POST.
    client.writer.write(raw(f"Content-Length: {len(inner)}", body=inner, method=method, target="/v1/audio/speech"))
    status, headers = await client.head()
    if method != "HEAD":
        await client.rest(headers)
    asked_by_the_first = len(front.asked)
    client.writer.write(chat())
    second = await client.reply()

    client.leave()
    assert (status, headers["allow"], asked_by_the_first) == (405, "POST", 0)
    assert (second.status, len(front.asked)) == (200, 1)


@pytest.mark.parametrize("method", ["BREW", "post", "TRACE", "LOCK"])
async def test_an_unknown_method_reaches_nobody(front, raw, method):
    [reply] = await front.all_replies(raw("Connection: close", method=method))

    assert reply.status in (400, 405)
    assert front.asked == []


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "foo", "TLS/1.0"])
async def test_an_offer_to_upgrade_is_not_taken_and_ends_the_connection(front, chat, canary, protocol):
    offer = chat(headers=f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n")

    replies = await front.all_replies(offer + chat(content=canary))

    assert [reply.status for reply in replies] == [200]
    assert replies[0].headers["connection"] == "close"
    assert len(front.asked) == 1
    assert front.asked[0].header("Upgrade") == ""


async def test_behind_an_offer_to_upgrade_nothing_comes_in_without_a_key(start_front, chat, keyed, key):
    front = await start_front(server=keyed)
    offer = chat(headers=f"Connection: Upgrade\r\nUpgrade: websocket\r\nAuthorization: Bearer {key}\r\n")

    replies = await front.all_replies(offer + chat())

    assert [reply.status for reply in replies] == [200]
    assert len(front.asked) == 1
