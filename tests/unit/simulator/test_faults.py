"""Each fault breaks exactly what it says, and nothing after it is cleared."""

import asyncio
import json
import time

import pytest

from nexus.simulator import (
    BadHeaders,
    CommentsOnly,
    Cut,
    Drip,
    ErrorEvent,
    ErrorInSuccess,
    Garbage,
    HangUp,
    Heartbeats,
    HtmlPage,
    HugeEvent,
    IgnoreStream,
    InformationalFlood,
    Mislabel,
    Redirect,
    Refuse,
    Reset,
    Stall,
    Status,
    Unfinished,
    Verbatim,
    WrongLength,
)

PATH = "/v1/chat/completions"
QUESTION = {"model": "llama3", "messages": [{"role": "user", "content": "hi"}]}
WHOLE = json.dumps(QUESTION).encode()
STREAMED = json.dumps(QUESTION | {"stream": True}).encode()


@pytest.fixture
def broken(simulate, connect):
    """Ask a simulator that has these faults; return it and the connection."""

    async def ask(*faults, body=STREAMED, path=PATH, **settings):
        simulator = await simulate(**settings)
        simulator.faults.set(*faults)
        wire = await connect(simulator)
        await wire.ask(path, body)
        return simulator, wire

    return ask


def events(stream):
    return stream.count(b"data: ")


async def is_silent(wire):
    try:
        async with asyncio.timeout(0.05):
            await wire.reader.read(1)
    except TimeoutError:
        return True
    return False


async def test_refusing_closes_idle_connections_and_keeps_the_port(simulate, connect):
    simulator = await simulate()
    idle = await connect(simulator)
    await idle.ask("/health", method="GET")
    await idle.answer()

    simulator.faults.set(Refuse())
    with pytest.raises(ConnectionRefusedError):
        await connect(simulator)
    simulator.faults.clear()
    again = await connect(simulator)
    await again.ask("/health", method="GET")

    assert await idle.rest() == b""
    assert (await again.answer())[0].startswith(b"HTTP/1.1 200 OK")


async def test_refusing_lets_answers_under_way_finish(broken):
    simulator, wire = await broken(tokens_per_s=100, answer_tokens=5)
    await wire.head()

    simulator.faults.set(Refuse())

    assert (await wire.rest()).endswith(b"0\r\n\r\n")


async def test_a_killed_server_resets_answers_under_way(broken):
    simulator, wire = await broken(tokens_per_s=10)
    await wire.head()

    simulator.faults.set(Refuse(kills_active=True))

    with pytest.raises(ConnectionResetError):
        await wire.rest()


async def test_a_refusal_can_end_by_itself(simulate, connect):
    simulator = await simulate()

    simulator.faults.set(Refuse(for_s=0.05))
    with pytest.raises(ConnectionRefusedError):
        await connect(simulator)
    await asyncio.sleep(0.1)

    await connect(simulator)
    assert simulator.faults.current == ()


async def test_hanging_up_at_accept_comes_before_any_request(simulate, connect):
    simulator = await simulate()
    simulator.faults.set(HangUp(at="accept", times=1))

    first, second = await connect(simulator), await connect(simulator)
    await second.ask("/health", method="GET")

    assert await first.rest() == b""
    assert (await second.answer())[0].startswith(b"HTTP/1.1 200 OK")


async def test_hanging_up_on_a_request_sends_nothing(broken):
    _, wire = await broken(HangUp())

    assert await wire.rest() == b""


async def test_a_reset_is_a_reset(broken):
    _, wire = await broken(Reset())

    with pytest.raises(ConnectionResetError):
        await wire.rest()


@pytest.mark.parametrize(
    ("phase", "before"),
    [("before_headers", b""), ("status_line", b"HTTP/1.1 20")],
)
async def test_a_stall_before_the_headers_is_silent_until_the_client_leaves(broken, phase, before):
    simulator, wire = await broken(Stall(phase=phase))

    sent = await wire.reader.readexactly(len(before))
    silent = await is_silent(wire)
    wire.writer.close()
    await asyncio.sleep(0.01)

    assert (sent, silent, simulator.active, len(simulator.aborted)) == (before, True, 0, 1)


@pytest.mark.parametrize("body", [STREAMED, WHOLE])
async def test_a_stall_after_the_headers_sends_no_body(broken, body):
    _, wire = await broken(Stall(phase="after_headers"), body=body)

    await wire.head()

    assert await is_silent(wire)


async def test_a_stall_in_a_stream_comes_after_its_events(broken):
    simulator, wire = await broken(Stall(phase="mid_stream", after_events=3))

    for _ in range(3):
        await wire.reader.readuntil(b"\n\n\r\n")

    assert await is_silent(wire)
    assert simulator.requests[0].events_sent == 3


async def test_a_drip_is_whole_but_slow(broken):
    _, wire = await broken(Drip(interval_s=0), body=WHOLE)

    _, body = await wire.answer()

    assert json.loads(body)["choices"][0]["finish_reason"] == "stop"


async def test_comments_carry_no_event(broken):
    _, wire = await broken(CommentsOnly(interval_s=0.001))

    await wire.head()
    comments = await wire.reader.readexactly(200)

    assert events(comments) == 0
    assert b": still there\n\n" in comments


@pytest.mark.parametrize(
    ("fault", "whole_events", "end"),
    [
        (Cut(after_events=2), 2, b""),
        (Cut(after_events=2, mid_event=False), 2, b"\n\n\r\n"),
        (Cut(after_events=2, ending="terminate"), 2, b"\r\n0\r\n\r\n"),
    ],
)
async def test_a_cut_stream_has_so_many_whole_events_and_then_its_end(broken, fault, whole_events, end):
    _, wire = await broken(fault)

    stream = await wire.rest()

    assert stream.count(b"\n\n\r\n") == whole_events
    assert events(stream) == whole_events + fault.mid_event
    assert stream.endswith(end)
    assert stream.endswith(b"0\r\n\r\n") == (fault.ending == "terminate")


async def test_a_stream_can_be_cut_by_a_reset_after_its_events_have_arrived(broken):
    _, wire = await broken(Cut(after_events=2, ending="reset"))

    stream = await wire.reader.readuntil(b"\n\n\r\n") + await wire.reader.readuntil(b"\n\n\r\n")

    assert events(stream) == 2
    with pytest.raises(ConnectionResetError):
        await wire.rest()


async def test_an_answer_that_is_no_stream_is_cut_in_its_middle(broken):
    _, wire = await broken(Cut(), body=WHOLE)

    head = await wire.head()
    length = int(head.lower().split(b"content-length: ")[1].split()[0])

    assert 0 < len(await wire.rest()) < length


@pytest.mark.parametrize(
    ("path", "marker"),
    [
        (PATH, b"[DONE]"),
        ("/v1/messages", b"message_stop"),
        ("/v1/responses", b"response.completed"),
        ("/api/chat", b'"done":true'),
    ],
)
async def test_an_unfinished_stream_ends_in_good_order_but_without_its_marker(broken, path, marker):
    body = json.dumps(QUESTION | {"stream": True, "max_tokens": 64, "input": "hi"}).encode()
    kind = "ollama" if path == "/api/chat" else "generic"

    _, sound = await broken(path=path, body=body, kind=kind)
    _, wire = await broken(Unfinished(), path=path, body=body, kind=kind)

    assert marker in await sound.reader.readuntil(b"\r\n0\r\n\r\n")
    assert marker not in await wire.reader.readuntil(b"\r\n0\r\n\r\n")


async def test_an_unfinished_stream_may_still_say_why_it_finished(broken):
    _, wire = await broken(Unfinished(has_finish_reason=True))
    _, poorer = await broken(Unfinished())

    assert b'"finish_reason":"stop"' in await wire.reader.readuntil(b"\r\n0\r\n\r\n")
    assert b'"finish_reason":"stop"' not in await poorer.reader.readuntil(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("body", [STREAMED, WHOLE])
@pytest.mark.parametrize("by_bytes", [10, -10])
async def test_the_length_is_wrong_by_so_many_bytes(broken, body, by_bytes):
    _, wire = await broken(WrongLength(by_bytes=by_bytes), body=body)

    head = await wire.head()
    said = int(head.lower().split(b"content-length: ")[1].split()[0])
    if by_bytes < 0:
        wire.writer.write_eof()

    assert said - len(await wire.rest()) == by_bytes


@pytest.mark.parametrize("status", [401, 404, 429, 500, 502, 503])
async def test_a_status_comes_with_its_retry_after(broken, status):
    _, wire = await broken(Status(status=status, retry_after="soon", headers={"X-More": "1"}))

    head, body = await wire.answer()

    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Retry-After: soon\r\n" in head
    assert b"X-More: 1\r\n" in head
    assert "error" in json.loads(body)


async def test_a_status_may_have_a_body_of_its_own(broken):
    _, wire = await broken(Status(body="sorry"))

    assert (await wire.answer())[1] == b"sorry"


async def test_garbage_is_no_http(broken):
    _, wire = await broken(Garbage(size=300))

    garbage = await wire.rest()

    assert len(garbage) == 300
    assert b"HTTP" not in garbage


async def test_a_flood_of_1xx_has_no_end(broken):
    _, wire = await broken(InformationalFlood(interval_s=0))

    flood = [await wire.head() for _ in range(20)]

    assert set(flood) == {b"HTTP/1.1 102 Processing\r\n\r\n"}


@pytest.mark.parametrize(
    ("kind", "is_marked_done"),
    [("vllm", True), ("llamacpp", False)],
)
async def test_a_broken_engine_says_so_in_the_stream_as_its_kind_does(broken, kind, is_marked_done):
    _, wire = await broken(ErrorEvent(after_events=2), kind=kind)

    stream = await wire.reader.readuntil(b"\r\n0\r\n\r\n")

    assert stream.startswith(b"HTTP/1.1 200 OK")
    assert events(stream) == 3 + is_marked_done
    assert b'data: {"error":' in stream


async def test_an_error_can_be_the_first_event(broken):
    _, wire = await broken(ErrorEvent())

    await wire.head()

    assert b'data: {"error":' in await wire.reader.readuntil(b"\n\n")


async def test_ollama_loses_the_error_of_an_openai_stream(broken):
    _, wire = await broken(ErrorEvent(after_events=1), kind="ollama")

    stream = await wire.reader.readuntil(b"\r\n0\r\n\r\n")

    assert b"error" not in stream
    assert b"[DONE]" not in stream


async def test_a_broken_engine_fails_an_answer_that_is_no_stream(broken):
    _, wire = await broken(ErrorEvent(), body=WHOLE)

    assert (await wire.answer())[0].startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("body", [STREAMED, WHOLE])
async def test_a_huge_event_is_still_valid(broken, body):
    _, wire = await broken(HugeEvent(size=100_000), body=body)

    await wire.head()
    if body is WHOLE:
        content = await wire.reader.readuntil(b"}}")
    else:
        await wire.reader.readuntil(b"\n\n")
        content = (await wire.reader.readuntil(b"\n\n")).partition(b"data: ")[2]

    assert len(content) > 100_000
    assert json.loads(content)["model"] == "llama3"


@pytest.mark.parametrize(("content_type", "line"), [("text/plain", b"Content-Type: text/plain"), ("", b"")])
async def test_a_stream_has_another_label(broken, content_type, line):
    _, wire = await broken(Mislabel(content_type=content_type))

    head = await wire.head()
    stream = await wire.reader.readuntil(b"[DONE]")

    assert line in head
    assert b"event-stream" not in head
    assert events(stream) > 2


@pytest.mark.parametrize(("streams", "body"), [(True, WHOLE), (False, STREAMED)])
async def test_the_request_does_not_say_whether_it_streams(broken, streams, body):
    _, wire = await broken(IgnoreStream(streams=streams), body=body)

    head = await wire.head()

    assert (b"text/event-stream" in head) is streams


async def test_heartbeats_come_before_the_answer(broken):
    _, wire = await broken(Heartbeats(for_s=0.1, interval_s=0.02))

    await wire.head()
    stream = await wire.reader.readuntil(b"[DONE]")

    assert stream.count(b": still there") > 2
    assert b": still there" not in stream[stream.index(b"data: ") :]


@pytest.mark.parametrize("shape", ["object", "printed", "text", "flat", "anthropic", "detail"])
async def test_an_error_calls_itself_a_success(broken, shape):
    _, wire = await broken(ErrorInSuccess(shape=shape))

    head, body = await wire.answer()

    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/json")
    assert "the engine broke" in json.dumps(json.loads(body))


async def test_a_picture_is_as_long_as_it_is_set(simulate, connect):
    wire = await connect(await simulate(picture_bytes=100_000))
    await wire.ask("/v1/images/generations", b'{"model":"llama3","prompt":"x","stream":true}')

    await wire.head()
    stream = await wire.reader.readuntil(b"0\r\n\r\n")

    assert b"image_generation.completed" in stream
    assert len(stream) > 100_000


async def test_verbatim_bytes_are_sent_as_they_are(broken):
    _, wire = await broken(Verbatim('data: {"a": 1}\n\n'))

    head, body = await wire.answer()

    assert b"Content-Type: text/event-stream" in head
    assert body == b'data: {"a": 1}\n\n'


async def test_a_web_page_pretends_to_be_an_answer(broken):
    _, wire = await broken(HtmlPage())

    head, body = await wire.answer()

    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/html")
    assert body.startswith(b"<!doctype html>")


async def test_a_redirect_names_its_place(broken):
    _, wire = await broken(Redirect(location="http://127.0.0.1:1/steal"))

    head, _ = await wire.answer()

    assert head.startswith(b"HTTP/1.1 302 ")
    assert b"Location: http://127.0.0.1:1/steal\r\n" in head


@pytest.mark.parametrize(
    ("flaw", "is_there"),
    [
        ("control_characters", lambda head: b"\x01" in head),
        ("too_many", lambda head: head.count(b"\r\n") > 300),
        ("too_long", lambda head: len(head) > 20_000),
    ],
)
async def test_a_head_can_be_bad(broken, flaw, is_there):
    _, wire = await broken(BadHeaders(flaw=flaw), body=WHOLE)

    assert is_there(await wire.head())


async def test_a_fault_ends_after_its_times_and_the_next_follows(simulate, connect):
    simulator = await simulate()
    simulator.faults.set(Status(status=503, times=1), Status(status=429, times=2))
    wire = await connect(simulator)

    statuses = []
    for _ in range(4):
        await wire.ask(PATH, WHOLE)
        statuses.append(int((await wire.answer())[0].split()[1]))

    assert statuses == [503, 429, 429, 200]
    assert [record.fault for record in simulator.requests] == ["status", "status", "status", None]


@pytest.mark.parametrize(
    ("scope", "inference", "probe"),
    [("inference", 503, 200), ("probes", 200, 503), ("all", 503, 503)],
)
async def test_a_fault_is_for_inference_unless_it_says_otherwise(simulate, connect, scope, inference, probe):
    simulator = await simulate()
    simulator.faults.set(Status(on=scope))
    wire = await connect(simulator)

    await wire.ask(PATH, WHOLE)
    asked = await wire.answer()
    await wire.ask("/v1/models", method="GET")
    probed = await wire.answer()

    assert (int(asked[0].split()[1]), int(probed[0].split()[1])) == (inference, probe)


async def test_faults_are_set_shown_and_cleared_over_http(simulate, connect):
    simulator = await simulate()
    simulator.faults.set(Reset(on="all"))
    wire = await connect(simulator)
    fault = b'{"kind":"stall","phase":"mid_stream","after_events":2,"times":3}'

    await wire.ask("/_simulator/fault", fault, method="PUT")
    _, after_set = await wire.answer()
    current = simulator.faults.current
    await wire.ask("/_simulator/fault", method="GET")
    _, shown = await wire.answer()
    await wire.ask("/_simulator/fault", method="DELETE")
    _, after_clear = await wire.answer()

    assert current == (Stall(phase="mid_stream", after_events=2, times=3),)
    assert json.loads(shown) == json.loads(after_set)
    assert json.loads(after_clear) == {"faults": []}


@pytest.mark.parametrize("fault", [b'{"kind":"nope"}', b'{"kind":"stall","afterevents":1}', b'{"kind":"refuse"}', b"x"])
async def test_a_fault_that_cannot_be_is_refused_over_http(simulate, connect, fault):
    simulator = await simulate()
    wire = await connect(simulator)

    await wire.ask("/_simulator/fault", fault, method="PUT")

    assert (await wire.answer())[0].startswith(b"HTTP/1.1 400 ")
    assert simulator.faults.current == ()


async def test_what_was_received_is_shown_over_http(simulate, connect):
    wire = await connect(await simulate())
    await wire.ask(PATH, WHOLE)
    await wire.answer()

    await wire.ask("/_simulator/requests", method="GET")
    shown = json.loads((await wire.answer())[1])

    assert [record["request"]["target"] for record in shown["requests"]] == [PATH]


async def test_a_fault_releases_the_slot_when_the_client_leaves(broken):
    simulator, wire = await broken(Stall(phase="mid_stream"), kind="vllm")
    await wire.reader.readuntil(b"\n\n")
    busy = simulator.engine.running

    left = time.monotonic()
    wire.writer.transport.abort()
    await asyncio.wait_for(simulator.idle(), 2)

    assert (busy, simulator.engine.running) == (1, 0)
    assert simulator.aborted[0].client_left - left < 0.1
