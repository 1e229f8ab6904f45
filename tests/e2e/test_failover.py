"""A replica of Redis that lacks the last writes is promoted: two proxies enter them again, and keep their budget."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import openai
import pytest

from nexus.testing.fleets import table_of
from nexus.testing.ports import free_port
from nexus.testing.waiting import until
from tests.support.process import run_nexus

REAL_SERVER = Path(__file__).parents[2] / "plugins/redis/tests/real_server.py"
CONFIG = """
[store]
kind = "redis"
[plugins.redis]
url = "{url}"
[plugins.budget]
monthly_limit_usd = 20
hard_limit_action = "block_cloud"
sync_interval_seconds = 0.1
[[plugins.budget.prices]]
model = "paid"
request_usd = 1.0
"""

for module in ("nexus_budget", "nexus_redis", "redis"):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed", allow_module_level=True)


@pytest.fixture
def servers():
    """A primary, and a replica that follows it."""
    spec = importlib.util.spec_from_file_location("real_server", REAL_SERVER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    programs = module.programs()
    if not programs:
        pytest.skip("no redis-server or valkey-server is installed")
    port, program = free_port(), next(iter(programs.values()))
    primary = module.RealServer(program, "--port", str(port), "--repl-diskless-sync-delay", "0")
    replica = module.RealServer(program, "--replicaof", "127.0.0.1", str(port))
    try:
        yield primary.start(), replica.start()
    finally:
        primary.end()
        replica.end()


def paid(nexus, count):
    """Ask for paid answers, and return how many were given."""
    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client:

        def is_given(_):
            try:
                client.chat.completions.create(model="paid", messages=[{"role": "user", "content": "hello"}])
            except openai.InternalServerError:
                return False
            return True

        with ThreadPoolExecutor(count) as pool:
            return sum(pool.map(is_given, range(count)))


def test_a_fail_over_loses_no_spending(servers, simulate, tmp_path):
    primary, replica = servers
    cloud = table_of(simulate(name="cloud", models=("paid",)), type="openai", max_in_flight=100)
    with ExitStack() as running:
        folders = [tmp_path / "one", tmp_path / "two"]
        for folder in folders:
            folder.mkdir()
        config = CONFIG.format(url=primary.url) + cloud
        both = [running.enter_context(run_nexus(folder, config)) for folder in folders]

        def spent():
            return {nexus.get_json("/admin/budget")["current_spending_usd"] for nexus in both}

        with primary.client() as redis:
            until(lambda: redis.info("replication")["connected_slaves"] == 1)
        assert [paid(nexus, 5) for nexus in both] == [5, 5]
        until(lambda: spent() == {10})
        with primary.client() as redis:
            assert redis.wait(1, 5000) == 1
        # From now on it lacks what is written.
        with replica.client() as redis:
            redis.replicaof("NO", "ONE")
        assert paid(both[0], 4) == 4
        until(lambda: spent() == {14})

        primary.kill()
        # The address follows the primary.
        replica.socket.rename(primary.socket)

        both[0].wait_for_log("ledger_restored")
        until(lambda: spent() == {14})
        assert sum(paid(nexus, 10) for nexus in both) == 6
