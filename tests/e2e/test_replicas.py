"""Three started replicas share a budget through a real Redis, which hangs, and comes back without its data."""

import asyncio
import importlib.util
import statistics
import time
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
    with in_thread(cloud, gpu), ExitStack() as running:
        config = CONFIG.format(url=redis_server.url, limit=COVERED)
        config += table_of(cloud, type="openai", max_in_flight=1000) + table_of(gpu, type="generic")
        folders = [tmp_path_factory.mktemp("replica") for _ in range(REPLICAS)]
        yield [running.enter_context(run_nexus(folder, config)) for folder in folders]


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
