"""What goes wrong before anything has gone to the client is mended by another backend, or told as what it is."""

import asyncio
import socket
import ssl

import msgspec
import pytest
import trustme

from nexus.dialing import names
from nexus.testing.ports import free_port
from tests.support.dialects import ANTHROPIC, CHAT, LAST_CHUNK, OLLAMA, RESPONSES, chunks, whole_answer
from tests.support.scripted import Close, Ignore, ReadHead, ReadRequest, Reset, Send, Stall, Wait

ERROR = b'{"error":{"message":"out of memory","type":"server_error","param":null,"code":null}}'
SOON = {"first_byte_s": 0.15}


class Case(msgspec.Struct, frozen=True):
    """What a backend does with a request, and what a client is told when there is no other backend."""

    steps: tuple = ()
    status: int = 502
    code: str | None = "bad_gateway"
    """None: the backend's own error passes as it is."""


def answered(wire, status=502, code="bad_gateway", then=()):
    return Case((ReadRequest(), Send(wire), *then), status, code)


def refused(status, headers=""):
    return answered(whole_answer(ERROR, status=status, headers=headers), status, None)


CASES = {
    "hangs up unasked": Case((Close(),)),
    "hangs up": Case((ReadRequest(), Close())),
    "resets": Case((ReadRequest(), Reset())),
    "resets before the request is read": Case((ReadHead(), Reset())),
    "breaks off in the status line": answered(b"HTTP/1.1 20", then=(Close(),)),
    "breaks off in the head": answered(b"HTTP/1.1 200 OK\r\nContent-Ty", then=(Reset(),)),
    "says nothing": Case((ReadRequest(), Stall()), 504, "ttft_timeout"),
    "stops in the status line": answered(b"HTTP/1.1 2", 504, "ttft_timeout"),
    "drips its head": Case((ReadRequest(), *[Send(b"H"), Wait(0.04), Send(b"T")], Stall()), 504, "ttft_timeout"),
    "stops after the head": answered(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 504, "ttft_timeout"),
    "sends garbage": answered(bytes(range(256)), then=(Close(),)),
    "speaks another protocol": answered(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "floods with 102": answered(b"HTTP/1.1 102 Processing\r\n\r\n" * 50),
    "drips 102": Case(
        (ReadRequest(), *[Send(b"HTTP/1.1 102 Processing\r\n\r\n"), Wait(0.02)] * 12, Stall()), 504, "ttft_timeout"
    ),
    "switches protocols": answered(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"),
    "redirects": answered(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
    "answers 999": answered(b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"),
    "answers 500": refused(500),
    "answers 502": refused(502),
    "answers 503": refused(503),
    "answers 504": refused(504),
    "answers 429": refused(429),
    "answers 500 without words": answered(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"),
    "answers 503 with a page": answered(whole_answer(b"<html>busy</html>", status=503), 503, "backend_unavailable"),
    "asks for a key": refused(401),
    "forbids": refused(403),
    "cuts its body": answered(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"', then=(Close(),)),
    "cuts its chunks": answered(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a', then=(Close(),)),
    "closes in a document": answered(
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"choices":[{', then=(Close(),)
    ),
    "sends a web page": answered(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n<h1>Error"),
    "compresses twice": answered(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "smuggles": answered(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    "has a control character in its head": answered(b"HTTP/1.1 200 OK\r\nX-A: a\x01b\r\nContent-Length: 2\r\n\r\n{}"),
    "has 300 headers": answered(b"HTTP/1.1 200 OK\r\n" + b"X-A: 1\r\n" * 300 + b"Content-Length: 2\r\n\r\n{}"),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


ASKED = ((CHAT, False), (CHAT, True), (RESPONSES, True), (ANTHROPIC, False), (OLLAMA, True))
"""By dialect, whether a stream is asked for: until an answer begins, only its errors differ."""


@pytest.fixture(params=ASKED, ids=lambda asked: f"{asked[0].name}-{'stream' if asked[1] else 'whole'}")
def asked(request):
    return request.param


async def test_another_backend_answers(start, script, case, asked):
    dialect, stream = asked
    broken, steady = await script(), await script()
    scene = await start(broken=broken, steady=steady, settings=SOON)
    broken.play(case.steps)
    steady.play([ReadRequest(), Send(dialect.good_stream if stream else dialect.good_answer)])

    reply = await scene.ask(dialect, stream=stream)

    assert (reply.status, reply.headers["x-nexus-backend"], reply.headers["x-nexus-attempts"]) == (200, "steady", "2")
    assert reply.body == (b"".join(dialect.events) if stream else dialect.whole)
    assert reply.headers["x-nexus-route-reason"] == "failover"
    outcome = scene.outcomes[0]
    assert [attempt.backend for attempt in outcome.attempts] == ["broken", "steady"]
    assert [attempt.ending for attempt in outcome.attempts] == ["backend_failed", "finished"]
    assert outcome.termination == "--"


async def test_without_another_backend_the_client_is_told(start, script, case, asked):
    dialect, stream = asked
    broken = await script()
    scene = await start(broken=broken, settings=SOON)
    broken.play(case.steps)

    reply = await scene.ask(dialect, stream=stream)

    assert (reply.status, reply.is_whole) == (case.status, True)
    if case.code is None:
        assert reply.body == ERROR
    else:
        assert reply.code == case.code
        assert reply.headers["content-type"] == "application/json"
    assert "x-nexus-attempts" not in reply.headers
    assert scene.outcomes[0].status == case.status
    assert scene.outcomes[0].termination == ("--" if case.code is None else "SH")


async def test_an_error_is_told_in_the_clients_protocol(start, script, dialect):
    broken = await script()
    scene = await start(broken=broken)
    broken.play([ReadRequest(), Close()])

    error = msgspec.json.decode((await scene.ask(dialect)).body)

    if dialect is OLLAMA:
        assert isinstance(error["error"], str)
    elif dialect.name == "messages":
        assert (error["type"], error["error"]["type"]) == ("error", "api_error")
    else:
        assert error["error"]["type"] == "server_error"


# streams that fail before their first content


STREAMS = {
    "ends before it says anything": ((), (Send(LAST_CHUNK),), 502, "bad_gateway"),
    "is cut before it says anything": ((), (Close(),), 502, "bad_gateway"),
    "is reset in its first event": ((0.5,), (Reset(),), 502, "bad_gateway"),
}


@pytest.mark.parametrize(("halves", "steps", "status", "code"), STREAMS.values(), ids=STREAMS.keys())
@pytest.mark.parametrize("has_other", [False, True], ids=["alone", "with another"])
async def test_a_stream_that_never_began(start, script, dialect, halves, steps, status, code, has_other):
    broken, steady = await script(), await script()
    scene = await start(broken=broken, settings=SOON, **({"steady": steady} if has_other else {}))
    first = b"".join(b"%x\r\n%b" % (len(dialect.events[0]), dialect.events[0][:20]) for _ in halves)
    broken.play([ReadRequest(), Send(dialect.stream_head() + first), *steps])
    steady.play([ReadRequest(), Send(dialect.good_stream)])

    reply = await scene.ask(dialect, stream=True)

    if has_other:
        assert reply.looks_finished(dialect)
    else:
        assert (reply.status, reply.code) == (status, code)


@pytest.mark.parametrize("has_other", [False, True], ids=["alone", "with another"])
async def test_a_stream_of_comments_never_began(start, script, dialect, has_other):
    broken, steady = await script(), await script()
    scene = await start(broken=broken, settings=SOON, **({"steady": steady} if has_other else {}))
    comments = [Send(chunks(dialect.comment)), Wait(0.02)] * 12
    broken.play([ReadRequest(), Send(dialect.stream_head()), *comments, Stall()])
    steady.play([ReadRequest(), Send(dialect.good_stream)])

    reply = await scene.ask(dialect, stream=True)

    if has_other:
        assert reply.looks_finished(dialect)
    else:
        assert (reply.status, reply.code) == (504, "ttft_timeout")


FIRST_ERRORS = {
    "chat": b'data: {"error":{"message":"boom","type":"%b","code":%d}}\n\n',
    "responses": b'event: error\ndata: {"type":"error","error":{"message":"boom","type":"%b","code":%d}}\n\n',
    "messages": b'event: error\ndata: {"type":"error","error":{"type":"%b","message":"boom","code":%d}}\n\n',
    "ollama": b'{"error":{"message":"boom","type":"%b","code":%d}}\n',
}


async def test_a_stream_that_begins_with_an_error_is_tried_elsewhere(start, script, dialect):
    broken, steady = await script(), await script()
    scene = await start(broken=broken, steady=steady)
    error = FIRST_ERRORS[dialect.name] % (b"server_error", 500)
    broken.play([ReadRequest(), Send(dialect.stream_head() + chunks(error) + LAST_CHUNK)])
    steady.play([ReadRequest(), Send(dialect.good_stream)])

    reply = await scene.ask(dialect, stream=True)

    assert reply.looks_finished(dialect)
    assert reply.headers["x-nexus-backend"] == "steady"


@pytest.mark.parametrize(("kind", "status"), [(b"invalid_request_error", 400), (b"server_error", 500)])
async def test_a_stream_that_begins_with_an_error_becomes_a_reply_of_its_status(start, script, dialect, kind, status):
    broken = await script()
    scene = await start(broken=broken)
    error = FIRST_ERRORS[dialect.name] % (kind, status)
    broken.play([ReadRequest(), Send(dialect.stream_head() + chunks(error) + LAST_CHUNK)])

    reply = await scene.ask(dialect, stream=True)

    assert (reply.status, reply.headers["content-type"]) == (status, "application/json")
    assert b"boom" in reply.body


async def test_a_clients_own_mistake_in_a_stream_is_not_tried_elsewhere(start, script):
    broken, steady = await script(), await script()
    scene = await start(broken=broken, steady=steady)
    error = FIRST_ERRORS["chat"] % (b"invalid_request_error", 400)
    broken.play([ReadRequest(), Send(CHAT.stream_head() + chunks(error) + LAST_CHUNK)])

    reply = await scene.ask(CHAT, stream=True)

    assert (reply.status, steady.attempts) == (400, [])


# connections that cannot be made


@pytest.fixture
def black_hole():
    """A port that takes no connection and refuses none: its backlog is full."""
    with socket.socket() as listening, socket.socket() as first, socket.socket() as second:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.fixture
def untrusted():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(params=[True, False], ids=["with another", "alone"])
async def ask_at(request, start, script):
    """Ask a proxy whose backend is at this address, with another beside it or without; check what comes of it."""

    async def ask(url, status, code):
        broken, steady = await script(), await script()
        others = {"steady": steady} if request.param else {}
        scene = await start(broken=broken, **others, options={"broken": {"url": url}}, settings={"connect_s": 0.15})
        steady.play([ReadRequest(), Send(CHAT.good_answer)])
        reply = await scene.ask(CHAT)
        if request.param:
            assert reply.headers["x-nexus-backend"] == "steady"
        else:
            assert (reply.status, reply.code) == (status, code)
        return reply

    return ask


async def test_a_refused_connection(ask_at):
    reply = await ask_at(f"http://127.0.0.1:{free_port()}", 503, "no_healthy_backend")

    assert reply.headers.get("retry-after") == ("5" if reply.status == 503 else None)


async def test_a_connection_that_is_never_made(ask_at, black_hole):
    await ask_at(f"http://127.0.0.1:{black_hole}", 504, "connect_timeout")


async def test_a_name_that_nobody_knows(ask_at, monkeypatch):
    async def nobody_knows(host, port):
        raise OSError("NXDOMAIN")

    monkeypatch.setattr(names, "look_up", nobody_knows)

    await ask_at("http://gpu-9.localhost:9", 503, "no_healthy_backend")


async def test_a_name_that_is_looked_up_for_ever(ask_at, monkeypatch):
    async def look_for_ever(host, port):
        await asyncio.sleep(30)

    monkeypatch.setattr(names, "look_up", look_for_ever)

    await ask_at("http://gpu-8.localhost:9", 504, "connect_timeout")


async def test_a_certificate_that_nobody_trusts(ask_at, script, untrusted):
    secret = await script(tls=untrusted)
    secret.play([ReadRequest(), Send(CHAT.good_answer)])

    await ask_at(secret.url, 502, "backend_tls")

    assert all(attempt.received == b"" for attempt in secret.attempts)


async def test_plain_text_where_tls_is_spoken(ask_at, script):
    plain = await script()
    plain.play([Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Close()])

    await ask_at(f"https://127.0.0.1:{plain.port}", 502, "backend_tls")

    assert not any(b"POST" in attempt.received for attempt in plain.attempts)


async def test_a_tls_handshake_that_stalls(ask_at, script):
    silent = await script()
    silent.play([Stall()])

    await ask_at(f"https://127.0.0.1:{silent.port}", 504, "connect_timeout")


# who may be asked again


async def test_a_paid_request_that_may_have_begun_is_not_sent_twice(start, script, dialect):
    paid, other = await script(), await script()
    scene = await start(paid=paid, other=other, options={"paid": {"retry_unsafe": False}})
    paid.play([ReadRequest(), Close()])

    reply = await scene.ask(dialect)

    assert (reply.status, reply.code, other.attempts) == (502, "bad_gateway", [])


async def test_a_paid_backend_that_was_never_reached_is_no_reason_to_stop(start, script):
    paid, other = await script(), await script()
    url = f"http://127.0.0.1:{free_port()}"
    scene = await start(paid=paid, other=other, options={"paid": {"retry_unsafe": False, "url": url}})
    other.play([ReadRequest(), Send(CHAT.good_answer)])

    assert (await scene.ask(CHAT)).headers["x-nexus-backend"] == "other"


async def test_a_missing_model_is_looked_for_once_more_and_taken_off_the_list(start, script):
    forgetful, other = await script(), await script()
    scene = await start(forgetful=forgetful, other=other)
    missing = b'{"error":{"message":"model \'llama3:8b\' not found","type":"not_found_error"}}'
    forgetful.play([ReadRequest(), Send(whole_answer(missing, status=404))])
    other.play([ReadRequest(), Send(CHAT.good_answer)])

    reply = await scene.ask(CHAT)

    assert reply.headers["x-nexus-backend"] == "other"
    assert scene.backend("forgetful").models == {}


async def test_a_model_that_is_missing_everywhere_is_told_as_its_backend_told_it(start, script):
    forgetful = await script()
    scene = await start(forgetful=forgetful)
    missing = b'{"error":{"message":"model \'llama3:8b\' not found","type":"not_found_error"}}'
    forgetful.play([ReadRequest(), Send(whole_answer(missing, status=404))])

    reply = await scene.ask(CHAT)

    assert (reply.status, reply.body) == (404, missing)


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422, 451])
async def test_what_is_the_clients_own_mistake_passes_untouched(start, script, dialect, status):
    strict, other = await script(), await script()
    scene = await start(strict=strict, other=other)
    strict.play([ReadRequest(), Send(whole_answer(ERROR, status=status))])

    reply = await scene.ask(dialect)

    assert (reply.status, reply.body, other.attempts) == (status, ERROR, [])
    assert scene.outcomes[0].ending == "finished"


async def test_a_refusal_of_our_key_never_shows_the_key(start, script, tmp_path):
    key_file = tmp_path / "key"
    key_file.write_text("sk-canary-0123456789")
    key_file.chmod(0o600)
    locked = await script()
    scene = await start(locked=locked, options={"locked": {"api_key": f"file:{key_file}"}})
    echo = b'{"error":{"message":"Incorrect API key provided: sk-canary-0123456789"}}'
    answers = [Send(whole_answer(echo, status=status)) for status in (401, 400)]
    locked.play([ReadRequest(), answers[0], ReadRequest(), answers[1]])

    replies = [await scene.ask(CHAT), await scene.ask(CHAT)]

    assert [reply.status for reply in replies] == [502, 400]
    assert not any(b"sk-canary" in reply.body for reply in replies)
    assert b"sk-canary" in locked.attempts[0].received


# stale connections


async def test_a_stale_connection_is_replaced_without_anybody_noticing(start, script, dialect):
    sleepy = await script()
    scene = await start(sleepy=sleepy)
    once = [ReadRequest(), Send(dialect.good_answer), ReadRequest(), Close()]
    sleepy.play(once, [ReadRequest(), Send(dialect.good_answer)])

    replies = [await scene.ask(dialect), await scene.ask(dialect)]

    assert [reply.status for reply in replies] == [200, 200]
    assert [len(outcome.attempts) for outcome in scene.outcomes] == [1, 1]
    assert scene.backend("sleepy").breaker == "closed"


async def test_connections_that_a_backend_closes_between_requests_cost_nothing(start, script):
    sleepy = await script()
    scene = await start(sleepy=sleepy)
    sleepy.play([ReadRequest(), Send(CHAT.good_answer), Wait(0.005), Close()])
    client = await scene.connect()

    for number in range(60):
        client.send(CHAT)
        assert (await client.reply()).status == 200, number
        await asyncio.sleep(0.0002 * (number % 40))


async def test_an_answer_with_a_tail_is_whole_and_its_connection_is_dropped(start, script):
    chatty = await script()
    scene = await start(chatty=chatty)
    chatty.play([ReadRequest(), Send(CHAT.good_answer + b"surplus")], [ReadRequest(), Send(CHAT.good_answer)])

    replies = [await scene.ask(CHAT), await scene.ask(CHAT)]

    assert [reply.body for reply in replies] == [CHAT.whole, CHAT.whole]
    assert len(chatty.attempts) == 2


# early answers


async def test_a_refusal_while_the_request_is_still_being_sent_passes(start, script):
    picky = await script()
    scene = await start(picky=picky)
    picky.play([ReadHead(), Send(whole_answer(ERROR, status=413)), Wait(0.05), Close()])
    large = CHAT.body(stream=False, padding="x" * 20_000_000)

    reply = await scene.ask(CHAT, body=large)

    assert (reply.status, reply.body) == (413, ERROR)


async def test_a_backend_that_reads_no_further_after_its_refusal_keeps_no_connection(start, script):
    picky = await script()
    scene = await start(picky=picky)
    picky.play([ReadHead(), Send(whole_answer(ERROR, status=413)), Ignore(0.3), Stall()])
    large = CHAT.body(stream=False, padding="x" * 20_000_000)

    reply = await scene.ask(CHAT, body=large)
    await picky.ended()

    assert reply.status == 413
    assert len(picky.attempts[0].received) < len(large) / 2
