"""While no name server answers, backends are reached where they were last, by traffic and by probes."""

import asyncio
import socket

import pytest

from nexus.dialing import names
from nexus.dialing.lookups import Resolution
from nexus.fleet import fetching
from nexus.simulator import Settings, Simulator
from nexus.testing.client import ask, chat
from nexus.testing.proxy import nexus_in_loop
from nexus.testing.waiting import eventually

CONFIG = """
[health_check]
interval_seconds = 0.1
[timeouts]
upstream_keepalive_seconds = 0.001
[[backends]]
name = "gpu-1"
type = "vllm"
url = "http://gpu-1.test:{port}"
"""


class NameServer:
    """Knows this machine under every name, until it fails."""

    def __init__(self):
        self.failures = 0
        self.is_down = False

    async def look_up(self, host, port, *, asks_system=True):
        del asks_system
        if self.is_down:
            self.failures += 1
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return Resolution(((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port)),), 0.0)


@pytest.fixture
def name_server(monkeypatch):
    server = NameServer()
    monkeypatch.setattr(names, "look_up", server.look_up)
    monkeypatch.setattr(names, "MIN_TTL_S", 0.0)
    monkeypatch.setattr(names, "RETRY_S", 0.0)
    # Each probe connects anew.
    monkeypatch.setattr(fetching, "_IDLE_S", 0.001)
    names._names.clear()
    yield server
    names._names.clear()


async def test_a_backend_stays_reachable_while_no_name_server_answers(name_server):
    simulator = Simulator(Settings(name="gpu-1", kind="vllm", models=("llama3",)))
    async with simulator, nexus_in_loop(CONFIG.format(port=simulator.port)) as nexus:
        name_server.is_down = True
        await eventually(lambda: name_server.failures >= 2)
        reply = await asyncio.to_thread(ask, f"http://127.0.0.1:{nexus.port}", "/v1/chat/completions", chat("llama3"))
        (backend,) = nexus.fleet.snapshot.backends

    assert reply.status == 200
    assert (backend.status.value, backend.last_error) == ("healthy", None)
    assert name_server.failures >= 3
