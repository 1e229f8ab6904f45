"""A simulated server reports its load as the real one does, and can be made to lie, to fall silent and to restart."""

import asyncio
import json

import pytest

from nexus.simulator import SimulatedModel

CHAT = json.dumps({"model": "llama3", "messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()


@pytest.fixture
def get(connect):
    """Return a function that sends a GET, and returns the status and the body."""

    async def get(simulator, path):
        wire = await connect(simulator)
        await wire.ask(path, method="GET")
        head, body = await wire.answer()
        return int(head.split()[1]), body

    return get


async def test_sglang_reports_its_load_in_a_row_for_its_only_rank(simulate, connect, get):
    simulator = await simulate(kind="sglang", concurrency=1, ttft_s=0.5)
    for _ in range(2):
        wire = await connect(simulator)
        await wire.ask("/v1/chat/completions", CHAT)
        await wire.head()

    _, body = await get(simulator, "/v1/loads")

    (rank,) = json.loads(body)["loads"]
    assert (rank["num_running_reqs"], rank["num_waiting_reqs"], rank["max_running_requests"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("kind", "page", "status", "mark"),
    [
        ("llamacpp", "/metrics", 501, b"Start it with `--metrics`"),
        ("llamacpp", "/slots", 501, b"Start it with `--slots`"),
        ("sglang", "/metrics", 404, b"Not Found"),
        ("sglang", "/v1/loads", 404, b"Not Found"),
        ("vllm", "/metrics", 200, b"process_start_time_seconds"),
    ],
)
async def test_a_server_may_be_started_without_a_page(simulate, get, kind, page, status, mark):
    simulator = await simulate(kind=kind, hidden_pages=(page,))

    got, body = await get(simulator, page)

    assert got == status
    assert mark in body
    assert b"num_requests_running" not in body


@pytest.mark.parametrize("page", ["/metrics", "/slots"])
async def test_a_router_has_no_load_of_its_own(simulate, get, page):
    simulator = await simulate(kind="llamacpp", models=(SimulatedModel("llama3", status="loaded"),))

    assert (await get(simulator, page))[0] == 400


async def test_a_server_can_lie(simulate, get):
    simulator = await simulate(kind="vllm")
    simulator.engine.claims.running = 7
    simulator.engine.claims.waiting = 70

    _, body = await get(simulator, "/metrics")

    assert b'vllm:num_requests_running{engine="0",model_name="llama3"} 7.0' in body
    assert b'vllm:num_requests_waiting{engine="0",model_name="llama3"} 70.0' in body


async def test_a_server_can_keep_silent_about_its_load_only(simulate, get):
    simulator = await simulate(kind="vllm")
    simulator.engine.claims.is_stalled = True
    asking = asyncio.ensure_future(get(simulator, "/metrics"))

    assert (await get(simulator, "/health"))[0] == 200
    assert not asking.done()

    simulator.engine.claims.is_stalled = False
    assert (await asking)[0] == 200


async def test_a_restart_shows(simulate, get):
    simulator = await simulate(kind="vllm", port=0)
    before = simulator.engine.claims.started_at
    simulator.engine.prompt_tokens = 9

    await simulator.stop()
    await simulator.start()
    _, body = await get(simulator, "/metrics")

    assert simulator.engine.claims.started_at > before
    assert b'vllm:prompt_tokens_total{engine="0",model_name="llama3"} 0.0' in body
