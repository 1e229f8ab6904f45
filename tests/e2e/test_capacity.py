"""Requests beyond what a server works on at once wait in the queue of Nexus, which costs the server nothing."""

import asyncio
import time
from collections import Counter

import aiohttp
import pytest

from nexus import tasks
from nexus.testing.fleets import table_of

WITHIN_S = 60.0
ATTEMPTS = 4


async def ask(session, url, *, is_stream=True, key=""):
    body = {"model": "llama3", "messages": [{"role": "user", "content": "hi"}], "stream": is_stream}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as reply:
        await reply.read()
        return reply.status


async def ask_all(url, clients, times, **options):
    """Let so many clients ask so many times each; return the statuses and how long it took."""

    async def client(session):
        return [await ask(session, url, **options) for _ in range(times)]

    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session,
        asyncio.timeout(WITHIN_S),
    ):
        began = time.monotonic()
        found = await asyncio.gather(*(client(session) for _ in range(clients)))
    return Counter(status for statuses in found for status in statuses), time.monotonic() - began


def row_of(nexus):
    (row,) = nexus.get_json("/admin/backends")["backends"]
    return row


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("kind", "slots"), [("llamacpp", 4), ("vllm", 16), ("ollama", 4)])
@pytest.mark.parametrize("is_stream", [True, False], ids=["streams", "whole answers"])
def test_a_saturated_server_answers_as_many_requests_behind_nexus_as_alone(
    simulate, start_nexus, kind, slots, is_stream
):
    server = simulate(kind=kind, concurrency=slots, ttft_s=0.3, tokens_per_s=20, answer_tokens=4, queue_size=2000)
    nexus = start_nexus("[health_check]\nload_interval_seconds = 1.0\n" + table_of(server))

    def ratio():
        alone, alone_s = asyncio.run(ask_all(server.url, 5 * slots, 1, is_stream=is_stream))
        behind, behind_s = asyncio.run(ask_all(nexus.url, 5 * slots, 1, is_stream=is_stream))
        assert alone == behind == {200: 5 * slots}
        return alone_s / behind_s

    # Other tests that run at the same time slow down one of the two now and then.
    assert any(ratio() >= 0.97 for _ in range(ATTEMPTS))


@pytest.mark.timeout(120)
def test_beyond_the_slots_that_a_server_reports_requests_wait_in_the_queue_of_nexus(simulate, start_nexus):
    server = simulate(kind="llamacpp", concurrency=4, ttft_s=0.5, answer_tokens=4)
    nexus = start_nexus(table_of(server))

    async def look():
        asked = tasks.start(ask_all(nexus.url, 30, 1), name="clients")
        await asyncio.sleep(0.3)
        row, queue = await asyncio.gather(asyncio.to_thread(row_of, nexus), asyncio.to_thread(metric, nexus))
        return row, queue, await asked

    row, waiting, (statuses, _) = asyncio.run(look())

    assert statuses == {200: 30}
    assert row["pending_requests"] == 6
    assert waiting == 24
    assert row["capacity"] == 4
    assert row["capacity_source"] == "reported by the server"
    assert row["held_from"] == 6


@pytest.mark.timeout(120)
@pytest.mark.parametrize("queue", ["enabled = false", "max_size = 2", "max_wait_seconds = 0.2"])
def test_however_small_the_queue_no_request_is_refused_that_the_server_would_take(simulate, start_nexus, queue):
    server = simulate(kind="llamacpp", concurrency=2, ttft_s=0.2, answer_tokens=4)
    nexus = start_nexus(f"[queue]\n{queue}\n" + table_of(server))

    statuses, _ = asyncio.run(ask_all(nexus.url, 25, 1))

    assert statuses == {200: 25}


@pytest.mark.timeout(120)
def test_a_limit_for_one_model_leaves_the_slots_to_the_others(simulate, start_nexus):
    server = simulate(kind="vllm", models=("llama3", "qwen3"), ttft_s=0.3, answer_tokens=4)
    nexus = start_nexus(table_of(server) + '[backends.models."llama3"]\nmax_in_flight = 2\n')

    async def look():
        asked = tasks.start(ask_all(nexus.url, 8, 1), name="clients")
        await asyncio.sleep(0.15)
        row = await asyncio.to_thread(row_of, nexus)
        return row, await asked

    row, (statuses, _) = asyncio.run(look())

    assert statuses == {200: 8}
    assert row["pending_requests"] == 2
    assert {model["id"]: model["capacity"] for model in row["models"]} == {"llama3": 2, "qwen3": None}


def metric(nexus, name="nexus_queue_depth"):
    async def get():
        async with aiohttp.ClientSession() as session, session.get(f"{nexus.url}/metrics") as reply:
            return await reply.text()

    lines = [line for line in asyncio.run(get()).splitlines() if line.startswith(name)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
