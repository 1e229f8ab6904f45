"""Three started replicas share a budget, slots and drains by a real Redis, which then hangs, and loses its data.

In this order: after a loss, limits hold once each replica has renewed its leases, and hints arrive once each has
connected again.
"""

import asyncio
import importlib.util
import signal
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import openai
import pytest

from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until
from tests.support.process import run_nexus

REAL_SERVER = Path(__file__).parents[2] / "plugins/redis/tests/real_server.py"
REPLICAS = 3
EACH = 200
COVERED = 50
"""Requests that the budget covers: each costs a dollar."""

CONFIG = """
[store]
kind = "redis"
[plugins.redis]
url = "{url}"
[plugins.budget]
monthly_limit_usd = {limit}
hard_limit_action = "block_cloud"
sync_interval_seconds = 0.2
[[plugins.budget.prices]]
model = "paid"
request_usd = 1.0
"""

FASTER = """
from nexus.api import hookimpl
from nexus.fleet.sharing import replicas


@hookimpl
def nexus_reconcilers():
    return []


replicas.LEASE_TTL_S, replicas.RENEW_EVERY_S = {ttl_s}, {ttl_s} / 3
"""
"""A plugin that lets leases expire five times as fast as in earnest."""
TTL_S = 3.0
LIMIT = 3

for module in ("nexus_budget", "nexus_redis", "redis"):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def redis_server():
    spec = importlib.util.spec_from_file_location("real_server", REAL_SERVER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    programs = module.programs()
    if not programs:
        pytest.skip("no redis-server or valkey-server is installed")
    server = module.RealServer(next(iter(programs.values())))
    try:
        yield server.start()
    finally:
        server.end()


@pytest.fixture(scope="module")
def replicas(redis_server, tmp_path_factory):
    """Three proxies before a paid and a local backend, whose server of Redis keeps nothing on disk."""
    cloud = Simulator(Settings(name="cloud", models=("paid",)))
    gpu = Simulator(Settings(name="gpu", models=("llama3",)))
    # It refuses what exceeds the limit by two, so a limit that each replica had for itself would show. By one it may be
    # exceeded from its own view, as it frees a slot only after the last byte of an answer has left.
    narrow = Simulator(
        Settings(name="narrow", models=("qwen3",), ttft_s=0.05, answer_tokens=2, concurrency=LIMIT, queue_size=1)
    )
    slow = Simulator(Settings(name="slow", models=("sloth",), tokens_per_s=5, answer_tokens=200))
    with in_thread(cloud, gpu, narrow, slow), ExitStack() as running:
        config = CONFIG.format(url=redis_server.url, limit=COVERED)
        config += table_of(cloud, type="openai", max_in_flight=1000) + table_of(gpu, type="generic")
        config += table_of(narrow, max_in_flight=LIMIT) + table_of(slow, max_in_flight=LIMIT)
        folders = [tmp_path_factory.mktemp("replica") for _ in range(REPLICAS)]
        plugin = folders[0] / "faster.py"
        plugin.write_text(FASTER.format(ttl_s=TTL_S))
        yield [
            running.enter_context(run_nexus(folder, config, arguments=("--plugin", str(plugin)))) for folder in folders
        ]


async def admitted(nexus):
    """Ask a replica for many paid answers at once, and return how many it gives."""

    async def status(number):
        async with client.post("/v1/chat/completions", json=chat("paid", f"question {number}")) as answer:
            await answer.read()
            return answer.status

    async with aiohttp.ClientSession(nexus.url, connector=aiohttp.TCPConnector(limit=EACH)) as client:
        statuses = await asyncio.gather(*(status(number) for number in range(EACH)))
    assert set(statuses) <= {200, 503}
    return statuses.count(200)


def spent(nexus):
    return nexus.get_json("/admin/budget")["current_spending_usd"]


def local_answer_s(nexus, count=20):
    """Return how long a local answer takes, the median and the longest of some."""
    taken = []
    for _ in range(count):
        began = time.monotonic()
        assert ask(nexus.url, "/v1/chat/completions", chat("llama3")).status == 200
        taken.append(time.monotonic() - began)
    return statistics.median(taken), max(taken)


def test_replicas_hold_the_limit_of_a_backend_together(replicas):
    def ask_once(number):
        with client_of(replicas[number % REPLICAS]) as client:
            return client.chat.completions.create(**question("qwen3"))

    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(ask_once, range(36)))

    assert len(replies) == 36
    lines = [line for nexus in replicas for line in nexus.log_lines("exchange_finished") if line["model"] == "qwen3"]
    assert {line["attempts"] for line in lines} == {1}


def status_of(nexus, name):
    return row_of(nexus, name)["status"]


def row_of(nexus, name):
    return next(row for row in nexus.get_json("/admin/backends")["backends"] if row["name"] == name)


def test_a_drain_holds_for_all_replicas_and_ends_for_all(replicas):
    assert ask(replicas[0].url, "/admin/backends/slow/drain", b"").status == 200
    until(lambda: {status_of(nexus, "slow") for nexus in replicas} == {"draining"})

    assert ask(replicas[1].url, "/admin/backends/slow/undrain", b"").status == 200
    until(lambda: {status_of(nexus, "slow") for nexus in replicas} == {"healthy"})


async def test_of_six_hundred_requests_the_replicas_admit_what_the_budget_covers(replicas):
    counts = await asyncio.gather(*(admitted(nexus) for nexus in replicas))

    assert sum(counts) == COVERED
    until(lambda: [spent(nexus) for nexus in replicas] == [COVERED] * REPLICAS)


def test_a_server_that_hangs_slows_down_no_local_answer(replicas, redis_server):
    usual_s, _ = local_answer_s(replicas[0])
    before = [len(nexus.log_lines("store_failed")) for nexus in replicas]
    redis_server.hang()
    try:
        for nexus, count in zip(replicas, before, strict=True):
            nexus.wait_for_log("store_failed", count + 1)
        hung_s, longest_s = local_answer_s(replicas[0])
        ready = replicas[0].get_json("/ready")
    finally:
        redis_server.go_on()
    for nexus, count in zip(replicas, before, strict=True):
        nexus.wait_for_log("store_recovered", count + 1)

    assert hung_s < 5 * usual_s + 0.05
    assert longest_s < 1
    assert ready["ready"] is True
    assert "did not answer within 0.25 s" in ready["detail"]["store_failure"]
    assert ready["detail"]["on_store_failure"]["budget"] == "refuse"
    assert [len(nexus.log_lines("store_failed")) for nexus in replicas] == [count + 1 for count in before]
    assert not any("Traceback" in nexus.log_text() for nexus in replicas)


def test_a_server_that_comes_back_without_its_data_gets_the_spending_again(replicas, redis_server):
    redis_server.kill()
    redis_server.start()

    for nexus in replicas:
        nexus.wait_for_log("ledger_restored")
    until(lambda: [spent(nexus) for nexus in replicas] == [COVERED] * REPLICAS)
    with (
        openai.OpenAI(base_url=f"{replicas[0].url}/v1", api_key="unused", max_retries=0) as client,
        pytest.raises(openai.InternalServerError, match="excluded by budget"),
    ):
        client.chat.completions.create(model="paid", messages=[{"role": "user", "content": "one more"}])


def client_of(nexus):
    return openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0)


def question(model):
    return {"model": model, "messages": [{"role": "user", "content": "hello"}]}


def test_a_replica_that_is_killed_returns_its_slots_in_time(replicas):
    killed, other, _ = replicas
    before = len(other.log_lines("replicas_out_of_touch"))

    def is_out_of_touch():
        return len(other.log_lines("replicas_out_of_touch")) > before

    with ExitStack() as streams:
        for _ in range(LIMIT):
            client = streams.enter_context(client_of(killed))
            stream = streams.enter_context(client.chat.completions.create(**question("sloth"), stream=True))
            next(iter(stream))
        until(lambda: row_of(other, "slow")["pending_requests"] == LIMIT or is_out_of_touch())
        with client_of(other) as client, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.chat.completions.create, **question("sloth"), stream=True)
            until(lambda: other.get_json("/v1/stats")["queue"]["depth"] == 1 or is_out_of_touch())
            if is_out_of_touch():
                pytest.skip(
                    "the machine is so busy that the store did not answer in time: a replica then uses its part"
                )
            began = time.monotonic()
            killed.send(signal.SIGKILL)
            with waiting.result() as stream:
                next(iter(stream))
            taken_s = time.monotonic() - began

    assert taken_s < TTL_S + 1
