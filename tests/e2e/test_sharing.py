"""What one worker knows or does holds for all workers."""

import threading
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until
from tests.support.process import run_nexus

CONFIG = """
[server]
workers = 2

[queue]
enabled = true

[discovery]
enabled = false
"""
CHAT = "/v1/chat/completions"
LIMIT = 3


@pytest.fixture(scope="module")
def simulators():
    # It refuses what exceeds the limit by one, so a limit that did not hold would show.
    narrow = Simulator(
        Settings(name="narrow", models=("llama3",), ttft_s=0.05, answer_tokens=2, concurrency=LIMIT, queue_size=0)
    )
    slow = Simulator(Settings(name="slow", models=("sloth",), tokens_per_s=5, answer_tokens=100))
    with in_thread(narrow, slow):
        yield narrow, slow


@pytest.fixture(scope="module")
def nexus(simulators, tmp_path_factory):
    narrow, slow = simulators
    config = CONFIG + table_of(narrow, max_in_flight=LIMIT) + table_of(slow)
    with run_nexus(tmp_path_factory.mktemp("sharing"), config) as nexus:
        nexus.wait_for_log("started", 3, within_s=20)
        yield nexus


def every_worker(nexus, path):
    """Return what several connections are told, which go to all workers."""
    return [nexus.get_json(path) for _ in range(12)]


def rows(nexus, name):
    pages = every_worker(nexus, "/admin/backends")
    return [next((row for row in page["backends"] if row["name"] == name), None) for page in pages]


def test_workers_hold_the_limit_of_a_backend_together(nexus):
    def ask_once(_):
        with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client:
            return client.chat.completions.create(model="llama3", messages=[{"role": "user", "content": "hi"}])

    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(ask_once, range(48)))

    lines = nexus.wait_for_log("exchange_finished", 48)
    assert len(replies) == 48
    assert {line["worker"] for line in lines} == {1, 2}
    assert {line["attempts"] for line in lines} == {1}


def test_a_request_that_may_not_wait_gets_the_slot_of_another_worker(nexus):
    for _ in range(8):
        reply = ask(nexus.url, CHAT, chat("llama3"), headers={"X-Nexus-Queue-Timeout": "0"})

        assert reply.status == 200, reply.body


def test_a_worker_sees_the_requests_of_the_other_one(nexus):
    left = threading.Event()

    def stay(_):
        with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client:
            messages = [{"role": "user", "content": "hi"}]
            with client.chat.completions.create(model="sloth", messages=messages, stream=True) as stream:
                next(iter(stream))
                left.wait(20)

    with ThreadPoolExecutor(6) as pool:
        staying = [pool.submit(stay, at) for at in range(6)]
        try:
            until(lambda: {row["pending_requests"] for row in rows(nexus, "slow")} == {6}, within_s=10)
            told = ask(nexus.url, f"/v1/route/explain?endpoint={CHAT}", chat("sloth")).body.decode()
        finally:
            left.set()
        for each in staying:
            each.result()

    assert "at other workers or replicas" in told
    until(lambda: {row["pending_requests"] for row in rows(nexus, "slow")} == {0}, within_s=10)


def test_a_drain_holds_for_all_workers_and_ends_for_all(nexus):
    drained = ask(nexus.url, "/admin/backends/slow/drain", b"")
    statuses = {row["status"] for row in rows(nexus, "slow")}
    returned = ask(nexus.url, "/admin/backends/slow/undrain", b"")

    assert (drained.status, drained.json()["status"], statuses) == (200, "draining", {"draining"})
    assert returned.status == 200
    until(lambda: {row["status"] for row in rows(nexus, "slow")} == {"healthy"}, within_s=5)
