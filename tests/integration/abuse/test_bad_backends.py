"""A backend whose answers are not HTTP, not whole, too much, or lead elsewhere: the client gets an error in good order,
and the connection is not used again.
"""

import asyncio
import json

import pytest

from nexus.simulator import CommentsOnly, Redirect, Status
from nexus.testing.waiting import eventually
from tests.support.dialects import CHAT, LAST_CHUNK, chunks, whole_answer
from tests.support.scripted import Close, ReadRequest, ScriptedBackend, Send, Stall, Wait

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(CHAT.whole)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
GOOD_CHUNKS = chunks(CHAT.whole) + LAST_CHUNK
SECRET = "sk-the-backends-own-key"


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"X-Bad: a\x01b\r\n" + LENGTH + b"\r\n" + CHAT.whole,
        OK + b"X-Bad: a\x00b\r\n" + LENGTH + b"\r\n" + CHAT.whole,
        OK + b"X-Bad: a\x1b[2J\r\n" + LENGTH + b"\r\n" + CHAT.whole,
        OK + b"X-Bad: a\x7f\r\n" + LENGTH + b"\r\n" + CHAT.whole,
        OK + b"".join(b"X-%d: 1\r\n" % number for number in range(300)) + LENGTH + b"\r\n" + CHAT.whole,
        OK + b"X-Long: " + b"a" * 20_480 + b"\r\n" + LENGTH + b"\r\n" + CHAT.whole,
        OK + b"X-Long: " + b"a" * 100_000 + b"\r\n" + LENGTH + b"\r\n" + CHAT.whole,
        OK.replace(b"200", b"999") + LENGTH + b"\r\n" + CHAT.whole,
        OK.replace(b"200", b"000") + LENGTH + b"\r\n" + CHAT.whole,
        OK.replace(b"200", b"42") + LENGTH + b"\r\n" + CHAT.whole,
        OK.replace(b"200", b"600") + LENGTH + b"\r\n" + CHAT.whole,
        OK.replace(b"200", b"-1") + LENGTH + b"\r\n" + CHAT.whole,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK + LENGTH + b"\r\n" + CHAT.whole,
        b"HTTP/1.1 102 Processing\r\n\r\n" * 1000,
        b"ICY 200 OK\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        OK + LENGTH + CHUNKED + b"\r\n" + GOOD_CHUNKS,
        OK + CHUNKED + LENGTH + b"\r\n" + GOOD_CHUNKS,
        OK + LENGTH + LENGTH + b"\r\n" + CHAT.whole,
        OK + LENGTH + b"Content-Length: 5\r\n\r\n" + CHAT.whole,
        OK + b"Content-Length: -5\r\n\r\n" + CHAT.whole,
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + GOOD_CHUNKS,
        OK + b"Transfer-Encoding: gzip\r\n\r\n" + CHAT.whole,
        OK + CHUNKED + CHUNKED + b"\r\n" + GOOD_CHUNKS,
        OK + CHUNKED + b"\r\nzz\r\n",
        OK + CHUNKED + b"\r\n" + chunks(CHAT.whole)[:-2] + b"XX" + LAST_CHUNK,
        OK + b"X-Folded: a\r\n b\r\n" + LENGTH + b"\r\n" + CHAT.whole,
        OK + b"Bad Name: a\r\n" + LENGTH + b"\r\n" + CHAT.whole,
    ],
    ids=lambda answer: repr(answer[:60]) + f"+{len(answer)}",
)
async def test_what_is_no_good_answer_becomes_a_bad_gateway(start_front, chat, check_refusal, answer):
    front = await start_front(
        [ReadRequest(), Send(answer), Stall()], timeouts="first_byte_seconds = 2\nwhole_answer_seconds = 2"
    )

    reply = await front.ask(chat())

    assert (reply.status, reply.code) == (502, "bad_gateway")
    check_refusal(reply, "openai")
    await eventually(lambda: not front.backend.open_connections)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n" + CHAT.whole, b""),
        (OK + LENGTH + b"\r\n" + CHAT.whole + b"HTTP/1.1 200 OK\r\n\r\nmore", CHAT.whole),
        (OK + CHUNKED + b"\r\n" + GOOD_CHUNKS + b"more", CHAT.whole),
        (b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n" + LENGTH + b"\r\n" + CHAT.whole, CHAT.whole),
        (OK + b"Connection: close\r\n" + LENGTH + b"\r\n" + CHAT.whole, CHAT.whole),
    ],
    ids=["more than none", "more than its length", "more than its chunks", "HTTP/1.0", "says it closes"],
)
async def test_a_connection_of_which_one_cannot_be_sure_is_not_used_again(start_front, chat, answer, body):
    front = await start_front([ReadRequest(), Send(answer), Stall()])

    replies = [await front.ask(chat()) for _ in range(3)]

    assert [reply.body for reply in replies] == [body] * 3
    assert len(front.backend.attempts) == 3


async def test_a_connection_that_was_answered_well_is_used_again(start_front, chat):
    front = await start_front([ReadRequest(), Send(CHAT.good_answer)] * 3)

    replies = [await front.ask(chat()) for _ in range(3)]

    assert [reply.status for reply in replies] == [200] * 3
    assert len(front.backend.attempts) == 1


async def test_an_answer_that_is_shorter_than_it_says_is_none(start_front, chat):
    front = await start_front([ReadRequest(), Send(OK + LENGTH + b"\r\n" + CHAT.whole[:-5]), Close()])

    reply = await front.ask(chat())

    assert (reply.status, reply.code) == (502, "bad_gateway")


async def test_headers_of_a_backends_connection_stay_on_it(start_front, chat):
    lines = (
        "Connection: keep-alive, X-Inner\r\nConnection: X-Other\r\nX-Inner: 1\r\nX-Other: 1\r\n"
        "Keep-Alive: timeout=5\r\nTrailer: X-T\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\n"
        "X-Nexus-Backend: forged\r\nX-Kept: 1\r\n"
    )
    front = await start_front([ReadRequest(), Send(whole_answer(CHAT.whole, headers=lines))])

    reply = await front.ask(chat())

    assert (reply.status, reply.headers["x-kept"], reply.headers["x-nexus-backend"]) == (200, "1", "gpu-1")
    assert not {
        "connection",
        "x-inner",
        "x-other",
        "keep-alive",
        "trailer",
        "upgrade",
        "proxy-authenticate",
    } & set(reply.headers)


async def test_a_phrase_of_a_backend_goes_nowhere(start_front, chat):
    answer = whole_answer(CHAT.whole).replace(b"200 X", b"200 <script>\xff")
    front = await start_front([ReadRequest(), Send(answer)])
    client = await front.connect()

    client.writer.write(chat())

    assert await client.reader.readline() == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("99999999", "300"),
        ("99999999999999999999999999", "300"),
        ("7", "7"),
        ("0", "0"),
        ("Fri, 01 Jan 2100 00:00:00 GMT", "300"),
        ("Thu, 01 Jan 1970 00:00:00 GMT", "0"),
        ("Fri, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2100 00:00:00 +9999999999", None),
        ("-1", None),
        ("nan", None),
        ("1e9", None),
        ("soon", None),
        ("", None),
        ("(", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503, 400])
async def test_nobody_is_told_to_wait_for_longer_than_five_minutes(front, chat, value, expected, status):
    front.backend.faults.set(Status(status=status, retry_after=value, times=1))

    reply = await front.ask(chat())

    assert reply.status == status
    assert reply.headers.get("retry-after") == expected


async def test_nor_in_milliseconds(front, chat):
    front.backend.faults.set(Status(status=429, headers={"retry-after-ms": "99999999999"}, times=1))

    reply = await front.ask(chat())

    assert int(reply.headers.get("retry-after-ms", "0")) <= 300_000


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirection_is_not_followed(start_front, chat, status):
    async with ScriptedBackend([ReadRequest(), Send(CHAT.good_answer)]) as elsewhere:
        head = f"HTTP/1.1 {status} Found\r\nLocation: {elsewhere.url}/steal\r\nContent-Length: 0\r\n\r\n"
        front = await start_front([ReadRequest(), Send(head.encode())])

        reply = await front.ask(chat())

    assert (reply.status, reply.code) == (502, "bad_gateway")
    assert "location" not in reply.headers
    assert elsewhere.attempts == []


async def test_a_redirecting_server_is_not_followed(front, chat):
    front.backend.faults.set(Redirect(times=1))

    assert (await front.ask(chat())).status == 502


@pytest.mark.parametrize("status", [400, 422, 500])
async def test_a_key_of_ours_that_a_backend_repeats_is_not_passed_on(start_front, chat, tmp_path, status):
    file = tmp_path / "key"
    file.write_text(SECRET)
    file.chmod(0o600)
    error = json.dumps({"error": {"message": f"bad key Bearer {SECRET}", "type": "x", "code": None}}).encode()
    lines = (
        f"Set-Cookie: k={SECRET}\r\nServer: engine\r\nX-Powered-By: x\r\nAlt-Svc: h3\r\n"
        f"WWW-Authenticate: Bearer {SECRET}\r\nX-Debug: Bearer {SECRET}\r\nX-Mine: 1\r\n"
    )
    answer = whole_answer(error, status=status, headers=lines)
    front = await start_front([ReadRequest(), Send(answer)], backend=f'api_key = "file:{file}"')

    reply = await front.ask(chat())

    assert reply.status == status
    assert SECRET not in repr(reply)
    assert reply.headers["x-mine"] == "1"
    assert not {"set-cookie", "server", "x-powered-by", "alt-svc", "www-authenticate"} & set(reply.headers)
    assert SECRET not in repr(front.log)


# streams that say too much, or nothing


@pytest.mark.parametrize("total", [2 * 1024 * 1024, 20 * 1024 * 1024])
async def test_an_event_without_end_is_cut(start_front, total):
    events = chunks(*CHAT.events[:2], b"data: " + b"a" * total)
    front = await start_front([ReadRequest(), Send(CHAT.stream_head() + events), Stall()])

    reply = await front.ask(CHAT.request(CHAT.body(stream=True)))

    assert not reply.looks_finished(CHAT)
    assert b'"event_too_large"' in reply.body
    assert len(reply.body) < 1024 * 1024
    await eventually(lambda: not front.backend.open_connections)


async def test_a_stream_of_single_bytes_is_served(start_front):
    wire = b"".join(CHAT.events)
    single = chunks(*(wire[index : index + 1] for index in range(len(wire))))
    front = await start_front([ReadRequest(), Send(CHAT.stream_head() + single + LAST_CHUNK)])

    reply = await front.ask(CHAT.request(CHAT.body(stream=True)))

    assert (reply.body, reply.is_whole) == (wire, True)


async def test_comments_do_not_put_off_the_first_content(start_front):
    front = await start_front(timeouts="stream_idle_seconds = 0.3\nfirst_byte_seconds = 0.9")
    front.backend.faults.set(CommentsOnly(interval_s=0.02, times=1))

    async with asyncio.timeout(3.0):
        reply = await front.ask(CHAT.request(CHAT.body(stream=True)))

    assert b'"stream_stalled"' in reply.body
    assert not reply.looks_finished(CHAT)


async def test_comments_after_the_first_words_do_not_put_off_the_deadline(start_front):
    drip = [step for _ in range(100) for step in (Send(chunks(b": x\n\n")), Wait(0.02))]
    front = await start_front(
        [ReadRequest(), Send(CHAT.stream_head() + chunks(*CHAT.events[:2])), *drip],
        timeouts="stream_idle_seconds = 0.3\nfirst_byte_seconds = 0.3",
        server="stream_timeout_seconds = 0.6",
    )

    reply = await front.ask(CHAT.request(CHAT.body(stream=True)))

    assert b'"deadline_exceeded"' in reply.body
    assert not reply.looks_finished(CHAT)
