"""A restart loses no request: not one of a client that keeps its connections, and no stream that has begun.

``ROLLING_RESTARTS=10`` and ``ROLLING_CLIENTS=50`` in the environment make a longer test of it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from nexus.testing.fleets import table_of
from nexus.testing.ports import free_port
from tests.support.process import run_nexus

RESTARTS = int(os.environ.get("ROLLING_RESTARTS", "2"))
CLIENTS = int(os.environ.get("ROLLING_CLIENTS", "24"))
LIBRARIES = ("aiohttp", "httpx", "requests")
BETWEEN_S = 0.5
SCRIPT = Path(__file__).with_name("clients_that_stay.py")


class Clients:
    """A process of clients for each library: in one, they would keep each other from running."""

    def __init__(self, url):
        self._processes = {}
        for place, library in enumerate(LIBRARIES):
            count = (CLIENTS + place) // len(LIBRARIES)
            command = [sys.executable, str(SCRIPT), f"{url}/v1/chat/completions", library, str(count)]
            self._processes[library] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def end(self):
        """Stop them and return what they have counted, by library."""
        for process in self._processes.values():
            process.terminate()
        return {library: json.loads(process.communicate(timeout=30)[0]) for library, process in self._processes.items()}

    def kill(self):
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.communicate()


@pytest.fixture
def running():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start(running, simulate, tmp_path):
    """Start a proxy; all of them listen on the same port."""
    port = free_port()
    fast, slow = simulate(models=("fast",)), simulate(name="gpu-2", models=("slow",), tokens_per_s=30)
    backends = table_of(fast) + table_of(slow)

    def start(config=""):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return running.enter_context(run_nexus(folder, config + backends, port=port))

    return start


@pytest.fixture
def clients(running):
    """Send clients to a proxy, and let them come to work."""

    def begin(nexus):
        clients = Clients(nexus.url)
        running.callback(clients.kill)
        nexus.wait_for_log("exchange_finished", 3 * CLIENTS, within_s=40)
        return clients

    return begin


def sums_of(found):
    sys.stdout.write(f"{RESTARTS} restarts: {found}\n")
    lost = [f"{library}: {text}" for library, counts in found.items() for text in counts["lost"]]
    return lost, sum(counts["refused"] for counts in found.values())


@pytest.mark.timeout(90 + 30 * RESTARTS)
def test_clients_that_keep_their_connections_lose_nothing(start, clients):
    nexus = start()
    asking = clients(nexus)

    for _ in range(RESTARTS):
        nexus.send(signal.SIGTERM)
        nexus.wait_for_log("draining")
        before, nexus = nexus, start_when_free(start)
        assert before.process.wait(15) == 0
        time.sleep(BETWEEN_S)
    lost, _ = sums_of(asking.end())

    assert lost == []


@pytest.mark.timeout(90 + 30 * RESTARTS)
def test_a_successor_that_listens_before_the_first_stops_refuses_nobody(start, clients):
    share = "[server]\nreuse_port = true\n"
    nexus = start(share)
    asking = clients(nexus)

    for _ in range(RESTARTS):
        before, nexus = nexus, start(share)
        nexus.wait_for_log("started", within_s=40)
        assert before.stop(within_s=30) == 0
        nexus.wait_for_log("exchange_finished", CLIENTS, within_s=40)
    lost, refused = sums_of(asking.end())

    assert (lost, refused) == ([], 0)


def start_when_free(start):
    for _ in range(20):
        try:
            return start()
        except AssertionError as exc:
            if "cannot listen" not in str(exc):
                raise
    raise AssertionError("the port is not given free")
