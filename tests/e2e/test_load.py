"""Many clients at once before a started proxy that nobody has tuned: all are answered, and equals get equal work."""

import asyncio
from collections import Counter

import aiohttp
import pytest

from nexus.simulator import faults
from nexus.testing.fleets import table_of

CLIENTS = 500
WITHIN_S = 60.0


def inference(simulator):
    return [record for record in simulator.requests if record.request.method == "POST" and "chat" in record.path]


async def ask(session, url, model, *, is_stream, prompt="hi"):
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": is_stream}
    async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
        text = await reply.text()
        is_whole = "[DONE]" in text if is_stream else '"choices"' in text
        return reply.status, is_whole, reply.headers.get("x-nexus-backend")


def ask_many(url, times, *, clients, model="llama3", is_stream=True, prompt="hi"):
    """Let so many clients ask until there were so many requests, and count what came of them."""

    async def client(session, left):
        found = Counter()
        while left:
            left.pop()
            found[await ask(session, url, model, is_stream=is_stream, prompt=prompt)] += 1
        return found

    async def run():
        left = [None] * times
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(WITHIN_S):
            return sum(await asyncio.gather(*(client(session, left) for _ in range(clients))), Counter())

    return asyncio.run(run())


def by_backend(found):
    assert {(status, is_whole) for status, is_whole, _ in found} == {(200, True)}
    return Counter({backend: count for (_, _, backend), count in found.items()})


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("kind", "is_stream", "concurrency", "ttft_s"),
    [
        ("vllm", True, 256, 0.2),
        ("ollama", True, 4, 0.004),
        ("llamacpp", True, 4, 0.004),
        ("llamacpp", False, 4, 0.004),
        ("lmstudio", True, 4, 0.004),
        ("generic", False, 64, 0.05),
    ],
)
def test_five_hundred_clients_of_one_server_are_all_answered(
    simulate, start_nexus, kind, is_stream, concurrency, ttft_s
):
    server = simulate(kind=kind, concurrency=concurrency, ttft_s=ttft_s, answer_tokens=4)
    nexus = start_nexus(table_of(server))

    found = ask_many(nexus.url, CLIENTS, clients=CLIENTS, is_stream=is_stream)

    assert by_backend(found) == {"gpu-1": CLIENTS}
    assert len(inference(server)) == CLIENTS


@pytest.mark.timeout(120)
@pytest.mark.parametrize("is_stream", [True, False], ids=["streams", "whole answers"])
def test_a_request_whose_turn_at_the_server_comes_late_is_answered(simulate, start_nexus, is_stream):
    server = simulate(kind="llamacpp", concurrency=2, ttft_s=0.4, answer_tokens=4)
    nexus = start_nexus("[timeouts]\nfirst_byte_seconds = 1.0\nwhole_answer_seconds = 1.0\n" + table_of(server))

    found = ask_many(nexus.url, 12, clients=12, is_stream=is_stream)

    assert by_backend(found) == {"gpu-1": 12}
    assert len(inference(server)) == 12


@pytest.mark.timeout(120)
@pytest.mark.parametrize("clients", [1, 16])
def test_equal_servers_get_equal_work(simulate, start_nexus, clients):
    servers = [simulate(name=f"gpu-{n}", ttft_s=0.005, answer_tokens=4) for n in range(4)]
    nexus = start_nexus("".join(table_of(server) for server in servers))

    shares = by_backend(ask_many(nexus.url, 400, clients=clients))

    assert max(shares.values()) <= 1.15 * 400 / 4


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [2, 5])
def test_so_they_do_with_requests_of_all_sizes_and_forms(simulate, start_nexus, number):
    servers = [simulate(name=f"gpu-{n}", ttft_s=0.005, answer_tokens=4) for n in range(number)]
    # Affinity would send the same long prompt to the servers that have it in their cache.
    nexus = start_nexus('[plugin_loading]\ndisabled = ["affinity"]\n' + "".join(table_of(server) for server in servers))

    def ask_all(clients, prompt, *, is_stream):
        return by_backend(ask_many(nexus.url, 60 * number, clients=clients, prompt=prompt, is_stream=is_stream))

    shares = ask_all(1, "hi", is_stream=False) + ask_all(8, "hi " * 5000, is_stream=True)
    shares += ask_all(8, "hi", is_stream=True) + ask_all(1, "hi " * 5000, is_stream=False)

    assert max(shares.values()) <= 1.15 * 240


@pytest.mark.timeout(120)
def test_a_server_that_is_half_as_fast_gets_about_half_as_much(simulate, start_nexus):
    fast = simulate(name="fast", ttft_s=0.1, answer_tokens=4)
    slow = simulate(name="slow", ttft_s=0.2, answer_tokens=4)
    nexus = start_nexus(table_of(fast) + table_of(slow))

    shares = by_backend(ask_many(nexus.url, 300, clients=12))

    assert 0.4 <= shares["slow"] / shares["fast"] <= 0.6


@pytest.mark.timeout(120)
@pytest.mark.parametrize("clients", [1, 8])
def test_one_slow_answer_does_not_starve_a_server(simulate, start_nexus, clients):
    first, second = (simulate(name=name, ttft_s=0.005, answer_tokens=4) for name in ("first", "second"))
    nexus = start_nexus(table_of(first) + table_of(second))
    first.faults.set(faults.Drip(interval_s=0.003, times=1))

    shares = by_backend(ask_many(nexus.url, 300, clients=clients))

    assert min(shares.values()) >= 90


def test_a_model_that_fails_moves_no_other_model_of_its_server(simulate, start_nexus):
    local = simulate(name="local", models=("llama3", "qwen3"))
    cloud = simulate(name="cloud", models=("llama3", "qwen3"))
    nexus = start_nexus(table_of(local, priority=1) + table_of(cloud, type="openai", priority=90, max_in_flight=1000))
    local.faults.set(faults.Status(status=500, model="qwen3"))

    failing = by_backend(ask_many(nexus.url, 6, clients=1, model="qwen3"))
    sound = by_backend(ask_many(nexus.url, 6, clients=1, model="llama3"))

    (row,) = [row for row in nexus.get_json("/admin/backends")["backends"] if row["name"] == "local"]
    assert failing == {"cloud": 6}
    assert len([record for record in inference(local) if b"qwen3" in record.request.body]) == 3
    assert sound == {"local": 6}
    assert {model["id"]: model["breaker"] for model in row["models"]} == {"llama3": "closed", "qwen3": "open"}
    assert 'nexus_model_breaker_state{backend="local",model="qwen3",state="open"} 1' in metrics_of(nexus)


def test_a_model_that_is_rate_limited_cools_no_other_model_of_its_server(simulate, start_nexus):
    local = simulate(name="local", models=("llama3", "qwen3"))
    cloud = simulate(name="cloud", models=("llama3", "qwen3"))
    nexus = start_nexus(table_of(local, priority=1) + table_of(cloud, type="openai", priority=90))
    local.faults.set(faults.Status(status=429, retry_after="60", model="qwen3", times=1))

    limited = by_backend(ask_many(nexus.url, 3, clients=1, model="qwen3"))
    sound = by_backend(ask_many(nexus.url, 3, clients=1, model="llama3"))

    assert (limited, sound) == ({"cloud": 3}, {"local": 3})


def metrics_of(nexus):
    async def get():
        async with aiohttp.ClientSession() as session, session.get(f"{nexus.url}/metrics") as reply:
            return await reply.text()

    return asyncio.run(get())
