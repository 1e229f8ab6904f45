"""Slots, queue, speed and metrics behave like those of a server at work."""

import asyncio
import json
import time
import urllib.error
import urllib.request

import pytest
import uvloop

from nexus.simulator import Cut, Refuse, Settings, Simulator, in_thread

CHAT = json.dumps({"model": "llama3", "messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()


async def test_tokens_come_at_the_chosen_pace(simulate, connect):
    wire = await connect(await simulate(kind="vllm", ttft_s=0.1, tokens_per_s=50, answer_tokens=6))

    began = time.monotonic()
    await wire.ask("/v1/chat/completions", CHAT)
    await wire.reader.readuntil(b"gpu-1")
    first = time.monotonic() - began
    await wire.reader.readuntil(b"[DONE]")
    whole = time.monotonic() - began

    assert 0.1 <= first < 1
    assert 0.2 <= whole < 2


async def test_a_full_queue_is_refused_and_the_metrics_show_why(simulate, connect):
    simulator = await simulate(kind="vllm", concurrency=1, queue_size=1, ttft_s=0.2)
    running, waiting, refused, watching = [await connect(simulator) for _ in range(4)]

    await running.ask("/v1/chat/completions", CHAT)
    await running.head()
    await waiting.ask("/v1/chat/completions", CHAT)
    await waiting.head()
    await refused.ask("/v1/chat/completions", CHAT)
    head, body = await refused.answer()
    await watching.ask("/metrics", method="GET")
    _, metrics = await watching.answer()

    assert head.startswith(b"HTTP/1.1 503 ")
    assert json.loads(body)["error"]["type"] == "Service Unavailable"
    assert b'num_requests_running{engine="0",model_name="llama3"} 1.0' in metrics
    assert b'num_requests_waiting{engine="0",model_name="llama3"} 1.0' in metrics


async def test_a_client_that_leaves_frees_its_slot_at_once(simulate, connect):
    simulator = await simulate(kind="vllm", concurrency=1, tokens_per_s=10)
    wire = await connect(simulator)
    await wire.ask("/v1/chat/completions", CHAT)
    await wire.reader.readuntil(b"gpu-1")

    left = time.monotonic()
    wire.writer.transport.abort()
    await asyncio.wait_for(simulator.idle(), 2)

    assert simulator.engine.running == 0
    assert 0 <= simulator.aborted[0].client_left - left < 0.1


async def test_a_client_that_leaves_the_queue_gives_its_place_back(simulate, connect):
    simulator = await simulate(kind="vllm", concurrency=1, tokens_per_s=10)
    running, waiting = await connect(simulator), await connect(simulator)
    await running.ask("/v1/chat/completions", CHAT)
    await running.head()
    await waiting.ask("/v1/chat/completions", CHAT)
    await waiting.head()

    waiting.writer.transport.abort()
    await asyncio.sleep(0.02)

    assert (simulator.engine.running, simulator.engine.waiting) == (1, 0)


async def test_what_arrived_is_kept_byte_for_byte(simulate, connect):
    simulator = await simulate()
    wire = await connect(simulator)
    body = b'{ "model":"llama3",\t"messages":[{"role":"user","content":"\\u00e9"}], "x": 1.50, "x": 2e0 }'

    await wire.ask("/v1/chat/completions?beta=true", body, headers="x-ODD: One\r\nX-odd: two\r\n")
    await wire.answer()

    record = simulator.requests[0]
    assert (record.body, record.request.target) == (body, "/v1/chat/completions?beta=true")
    assert [value for name, value in record.request.raw_headers if name.lower() == b"x-odd"] == [b"One", b"two"]
    assert record.client_left is None
    assert record.ended is not None


async def test_only_the_latest_requests_are_kept(simulate, connect, monkeypatch):
    monkeypatch.setattr("nexus.simulator.recording.MAX_RECORDS", 2)
    simulator = await simulate()
    wire = await connect(simulator)

    for number in range(3):
        await wire.ask(f"/health?{number}", method="GET")
        await wire.answer()

    assert [record.request.target for record in simulator.requests] == ["/health?1", "/health?2"]


async def test_an_upload_waits_for_permission_and_may_come_in_chunks(simulate, connect):
    simulator = await simulate()
    wire = await connect(simulator)

    wire.writer.write(
        b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    permission = await wire.head()
    for piece in (b'{"model":"llama3",', b'"input":"hi"}'):
        wire.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    wire.writer.write(b"0\r\n\r\n")

    assert permission == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await wire.answer())[0].startswith(b"HTTP/1.1 200 OK")
    assert simulator.requests[0].body == b'{"model":"llama3","input":"hi"}'


async def test_pipelined_requests_are_answered_in_order(simulate, connect):
    wire = await connect(await simulate())

    wire.writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")

    assert [(await wire.answer())[1][:1] for _ in range(3)] == [b"", b"", b"{"]


async def test_what_is_no_http_is_refused(simulate, connect):
    wire = await connect(await simulate())

    wire.writer.write(b"\x16\x03\x01 hello\r\n\r\n")

    assert (await wire.rest()).startswith(b"HTTP/1.1 400 Bad Request")


def test_simulators_run_in_a_thread_beside_blocking_code():
    simulator = Simulator(Settings(name="aside"))

    with in_thread(simulator):
        with urllib.request.urlopen(f"{simulator.url}/v1/models", timeout=5) as answer:
            models = json.load(answer)
        simulator.faults.set(Refuse())
        try:
            urllib.request.urlopen(f"{simulator.url}/v1/models", timeout=5)
        except urllib.error.URLError as exc:
            refusal = exc.reason

    assert models["data"][0]["id"] == "llama3"
    assert isinstance(refusal, ConnectionRefusedError)


def test_simulators_run_on_uvloop_too():
    async def ask():
        async with Simulator(Settings(name="gpu-1")) as simulator:
            simulator.faults.set(Cut(after_events=2, ending="reset"))
            reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(CHAT), CHAT))
            await reader.readuntil(b"gpu-1:")
            with pytest.raises(ConnectionResetError):
                await reader.readuntil(b"[DONE]")
            writer.close()

    uvloop.run(ask())
