"""What costs a client little and a proxy much: connections, slow bytes, large and crafted bodies, endless names."""

import asyncio
import gc
import json
import time

import pytest

from nexus.testing.waiting import eventually
from tests.support.bookkeeping import what_is_held
from tests.support.dialects import CHAT, MODEL

PROMPT = '"messages":[{"role":"user","content":"hello"}]'


async def refused(front, raw, body, **of_raw):
    return await front.ask(raw(f"Content-Length: {len(body)}", body=body, **of_raw))


# connections and time


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /v1/chat/comp", b"POST /v1/chat/completions HTTP/1.1\r\nHost: local", b"\r\n\r\n\r\n"],
    ids=repr,
)
async def test_connections_that_never_ask_are_closed_in_time(start_front, sent):
    front = await start_front(timeouts="headers_seconds = 0.3")
    await front.ask()
    tasks_before = len(asyncio.all_tasks())
    clients = [await front.connect() for _ in range(200)]
    for client in clients:
        client.writer.write(sent)

    served = await front.ask()
    async with asyncio.timeout(2.0):
        ends = [await client.reader.read() for client in clients]

    assert served.status == 200
    assert set(ends) == {b""}
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks_before)


async def test_a_head_that_drips_is_closed_in_time(start_front, chat):
    front = await start_front(timeouts="headers_seconds = 0.3")
    client = await front.connect()

    began = time.monotonic()
    for byte in chat()[:100]:
        client.writer.write(bytes([byte]))
        await asyncio.sleep(0.01)
        if client.reader.at_eof():
            break

    assert await client.reader.read() == b""
    assert time.monotonic() - began < 0.9


async def test_a_second_head_that_drips_is_closed_in_time(start_front, chat):
    front = await start_front(timeouts="headers_seconds = 0.3")
    client = await front.connect()
    client.writer.write(chat())
    await client.reply()

    client.writer.write(b"POST /v1")

    async with asyncio.timeout(1.0):
        assert await client.reader.read() == b""


async def test_a_head_may_take_its_time_within_the_deadline(front, chat):
    client = await front.connect()

    for part in (chat()[:20], chat()[20:90], chat()[90:]):
        client.writer.write(part)
        await asyncio.sleep(0.02)

    assert (await client.reply()).status == 200


@pytest.mark.parametrize("drip", [b"", b" "])
async def test_a_body_that_does_not_come_is_given_up(start_front, raw, drip):
    front = await start_front(timeouts="body_seconds = 0.3")
    client = await front.connect()
    client.writer.write(raw("Content-Length: 1000"))
    dripping = asyncio.ensure_future(_drip(client, drip))

    held = what_is_held(front.nexus)
    async with asyncio.timeout(1.0):
        reply = await client.reply()

    dripping.cancel()
    assert (reply.status, reply.code, reply.headers["connection"]) == (408, "request_timeout", "close")
    assert held["slots"] == 0


async def _drip(client, data):
    while True:
        client.writer.write(data)
        await asyncio.sleep(0.02)


async def test_a_client_that_stops_reading_is_given_up_and_its_backend_freed(start_front):
    front = await start_front(timeouts="write_stall_seconds = 0.3", answer_tokens=200_000)
    client = await front.connect(receive_buffer=4096)
    client.send(CHAT, stream=True)

    await eventually(lambda: front.backend.aborted, within_s=10.0)

    [line] = front.lines("exchange_finished")
    assert line["ending"] == "client_stalled"


async def test_who_takes_no_answers_cannot_have_them_pile_up(start_front, get):
    front = await start_front(timeouts="write_stall_seconds = 0.5")
    client = await front.connect(receive_buffer=4096)
    requests = get("/metrics") * 1000

    client.writer.write(requests * 10)

    await asyncio.sleep(0.3)
    [connection] = front.nexus._server.connections
    assert connection.transport.get_write_buffer_size() < 1024 * 1024
    await eventually(lambda: not front.nexus._server.connections)


async def test_a_thousand_requests_on_one_connection_are_answered_in_order(front, get):
    client = await front.connect()

    client.writer.write(b"".join(get("/health", f"X-Request-Id: n{number}\r\n") for number in range(1000)))
    ids = [(await client.reply()).headers["x-request-id"] for _ in range(1000)]

    assert ids == [f"n{number}" for number in range(1000)]


async def test_requests_behind_a_long_one_wait_unparsed(start_front, chat, get):
    front = await start_front(ttft_s=0.3)
    client = await front.connect()

    client.writer.write(chat() + get("/health") * 500)
    await asyncio.sleep(0.1)
    [connection] = front.nexus._server.connections
    waiting = len(connection._pending.waiting)
    statuses = [(await client.reply()).status for _ in range(501)]

    assert waiting <= 32
    assert set(statuses) == {200}


async def test_a_flood_of_malformed_requests_is_one_line_and_a_count(front):
    async def flood(connections):
        for _ in range(connections):
            [reply] = await front.all_replies(b"NOT HTTP\r\n\r\n")
            assert reply.status == 400

    await asyncio.gather(*(flood(50) for _ in range(4)))
    served = await front.ask()

    assert served.status == 200
    assert len(front.lines("request_refused")) == 1
    assert await front.counted("bad_request") == 200


# size


@pytest.mark.parametrize("length", [1025, 10**6, 2**63 - 1])
async def test_a_body_that_is_announced_too_long_is_refused_unread(start_front, raw, length):
    front = await start_front(server="max_body_bytes = 1024")

    await front.refuses(raw(f"Content-Length: {length}"), status=413, code="too_large")


async def test_a_body_that_grows_too_long_is_refused(start_front, raw):
    front = await start_front(server="max_body_bytes = 1024")
    chunk = b"200\r\n" + b" " * 512 + b"\r\n"

    await front.refuses(raw("Transfer-Encoding: chunked"), *[chunk] * 3, status=413, code="too_large")


async def test_a_body_of_the_greatest_length_is_taken(start_front, raw):
    front = await start_front(server="max_body_bytes = 1024")
    body = CHAT.body(stream=False).ljust(1024)

    reply = await front.ask(raw("Content-Length: 1024", body=body))

    assert reply.status == 200


# crafted JSON


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"model"',
        b'{"model":1}',
        b'{"model":["a"]}',
        b'{"model":"a\\u0000b"}',
        b'{"model":"a\\u001b[31mb"}',
        b'{"model":"' + b"a" * 5000 + b'"}',
        b'{"model":"llama3:8b","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"llama3:8b","messages":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        b"[" * 1_000_000,
        b'{"model":"llama3:8b","n":' + b"9" * 5000 + b"}",
        b'{"model":"llama3:8b","temperature":1e400}',
        b'{"model":"llama3:8b","temperature":NaN}',
        b'{"model":"llama3:8b","temperature":Infinity}',
        b'{"model":"\xff"}',
        '{"model":"llama3:8b"}'.encode("utf-16"),
        b'{"model":"llama3:8b","model":"other"}',
        b'{"model":"llama3:8b","MODEL":"other"}',
        b'{"model":"llama3:8b","mod\\u0065l":"other"}',
        b'{"model":"llama3:8b","stream":false,"stream":true}',
        b'{"model":"llama3:8b","max_tokens":1,"max_tokens":100}',
        b'{"model":"llama3:8b"}{"model":"other"}',
        b'{"model":"llama3:8b",}',
        b"{'model':'llama3:8b'}",
        b'{"model":"llama3:8b"} // x',
        b'{"model":"llama3:8b",' + b",".join(b'"k%d":1' % number for number in range(200_000)) + b"}",
    ],
    ids=lambda body: f"{body[:40]!r}+{len(body)}",
)
async def test_a_crafted_body_is_the_clients_mistake(front, raw, check_refusal, body):
    reply = await refused(front, raw, body)

    assert reply.status == 400
    assert reply.code in ("invalid_json", "invalid_value")
    check_refusal(reply, "openai")
    assert front.asked == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"llama3:8b","messages":[{"role":"user","content":"\\ud83d"}]}',
        b'{"model":"llama3:8b","messages":[{"role":"user","content":"caf\xe9"}]}',
        b'\xef\xbb\xbf{"model":"llama3:8b","messages":[{"role":"user","content":"hi"}]}',
    ],
    ids=["half of a pair", "latin-1", "byte order mark"],
)
async def test_text_that_some_servers_take_reaches_the_backend_as_it_is(front, raw, body):
    await front.ask(raw(f"Content-Length: {len(body)}", body=body))

    assert [request.body for request in front.asked] == [body]


@pytest.mark.parametrize(
    ("member", "param"),
    [
        ('"n":1000000', "n"),
        ('"best_of":1000000', "best_of"),
        ('"max_tokens":9223372036854775808', "max_tokens"),
        ('"max_completion_tokens":1e30', "max_completion_tokens"),
        ('"top_logprobs":1000000000', "top_logprobs"),
        ('"logprobs":1000000000', "logprobs"),
        ('"stop":[' + ",".join(['"x"'] * 100_001) + "]", "stop"),
        ('"tools":[' + ",".join(["{}"] * 100_001) + "]", "tools"),
        ('"guided_regex":"' + "(a+)+" * 50_000 + '"', "guided_regex"),
        ('"grammar":"' + "x" * 1_000_000 + '"', "grammar"),
        ('"chat_template":"' + "{%for%}" * 100_000 + '"', "chat_template"),
        ('"n":"many"', "n"),
        ('"stream":"yes"', "stream"),
        ('"model":{}', "model"),
    ],
    ids=lambda text: text[:24],
)
async def test_a_number_that_breaks_engines_is_refused_by_name(front, raw, member, param):
    model = "" if param == "model" else f'"model":"{MODEL}",'
    body = f"{{{model}{PROMPT},{member}}}".encode()

    reply = await refused(front, raw, body)

    assert (reply.status, json.loads(reply.body)["error"]["param"]) == (400, param)
    assert front.asked == []


@pytest.mark.parametrize(
    ("path", "member"),
    [
        ("/v1/chat/completions", '"messages":[' + ",".join(['{"role":"user","content":"x"}'] * 100_001) + "]"),
        ("/v1/completions", '"prompt":[' + ",".join(['"x"'] * 100_001) + "]"),
        ("/v1/embeddings", '"input":[' + ",".join(['"x"'] * 100_001) + "]"),
    ],
    ids=["messages", "prompts", "inputs"],
)
async def test_too_many_of_anything_are_refused(front, raw, path, member):
    reply = await refused(front, raw, f'{{"model":"{MODEL}",{member}}}'.encode(), target=path)

    assert (reply.status, reply.code) == (400, "invalid_value")
    assert front.asked == []


@pytest.mark.parametrize(
    "prompt", ["a" * 10_000_000, "\\u00e9" * 1_300_000, " a" * 3_000_000], ids=["aaa", "escaped", "words"]
)
async def test_a_long_prompt_does_not_hold_up_others(front, raw, get, prompt):
    body = f'{{"model":"{MODEL}","messages":[{{"role":"user","content":"{prompt}"}}],"max_tokens":1}}'.encode()
    longest_s = 0.0

    async def watch_the_loop():
        nonlocal longest_s
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.002)
            longest_s = max(longest_s, time.monotonic() - began)

    watching = asyncio.ensure_future(watch_the_loop())
    reply = await refused(front, raw, body)
    watching.cancel()

    assert reply.status in (200, 400)
    # Copying and writing ten megabytes in this very loop, on a busy machine, is in it.
    assert longest_s < 1.0


# names


async def _series(front, get):
    return (await front.ask(get("/metrics"))).body.count(b"\n")


async def test_names_that_clients_invent_leave_nothing_behind(front, raw, get):
    await front.ask(CHAT.request(CHAT.body(stream=False, model="unknown-0")))
    before = await _series(front, get)
    client = await front.connect()

    for number in range(1, 500):
        client.writer.write(
            CHAT.request(
                CHAT.body(stream=False, model=f"unknown-{number}"),
                headers=f"X-Request-Id: r{number}\r\nAuthorization: Bearer k{number}\r\nUser-Agent: a{number}\r\n",
            )
        )
        reply = await client.reply()
        assert (reply.status, reply.code) == (404, "model_not_found")
    began = time.monotonic()
    after = await _series(front, get)

    assert after == before
    assert after < 1000
    assert time.monotonic() - began < 0.5


async def test_paths_that_clients_invent_leave_nothing_behind(front, raw, get):
    await front.ask(get("/nothing"))
    before = await _series(front, get)
    client = await front.connect()

    for number in range(500):
        client.writer.write(get(f"/nothing/{number}?x={number}"))
        assert (await client.reply()).status == 404

    assert await _series(front, get) == before
    assert len(front.lines("request_refused")) == 1


async def test_churn_leaves_no_connection_and_no_task_behind(front, chat):
    await front.ask()
    gc.collect()
    tasks_before = len(asyncio.all_tasks())

    for _ in range(10):
        clients = [await front.connect() for _ in range(30)]
        for client in clients[:10]:
            client.writer.write(chat())
        for client in clients[10:20]:
            client.writer.write(chat()[:70])
        await asyncio.sleep(0)
        for client in clients:
            client.reset()

    await eventually(lambda: not front.nexus._server.connections)
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks_before + 2)
