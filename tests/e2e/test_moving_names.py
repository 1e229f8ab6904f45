"""A name that leads to another address is followed there within a time: by busy connections, idle ones, and probes."""

import json
import sys
import time
from threading import Thread

import pytest

from nexus.testing.client import ask, chat
from nexus.testing.fleets import backend_table
from nexus.testing.waiting import until

AGE_S = 2.0
TTL_S = 0.2
CONFIG = f"""
[health_check]
interval_seconds = 0.5
[timeouts]
upstream_max_age_seconds = {AGE_S}
upstream_keepalive_seconds = 30
"""
NAME_SERVER = f"""
import socket
from pathlib import Path

from nexus.api import hookimpl
from nexus.dialing import names
from nexus.dialing.lookups import Resolution


@hookimpl
def nexus_reconcilers():
    return []


async def look_up(host, port, asks_system=True):
    place = Path("address").read_text(), port
    return Resolution(((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place),), {TTL_S})


names.look_up, names.MIN_TTL_S = look_up, {TTL_S}
"""
"""A plugin that looks every name up in a file."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")


class Moving:
    """One backend that is two servers, of which its name leads to the one or the other."""

    def __init__(self, simulate, start_nexus, folder):
        self._file = folder / "address"
        self.old = simulate(name="old", kind="vllm", host="127.0.0.1", tokens_per_s=10, answer_tokens=40)
        self.new = simulate(name="new", kind="vllm", host="127.0.0.2", port=self.old.port)
        self._file.write_text("127.0.0.1")
        (folder / "name_server.py").write_text(NAME_SERVER)
        table = backend_table("gpu", f"http://gpu.test:{self.old.port}", type="vllm")
        self.nexus = start_nexus(CONFIG + table, arguments=("--plugin", str(folder / "name_server.py")))

    def move(self):
        # In one step: a look-up never reads half of it.
        self._file.with_suffix(".new").write_text("127.0.0.2")
        self._file.with_suffix(".new").replace(self._file)

    def who_answers(self, **more):
        reply = ask(self.nexus.url, "/v1/chat/completions", chat(max_tokens=1, **more))
        assert reply.status == 200
        return reply.json()["choices"][0]["message"]["content"].split()[0].strip(":,.")

    def stream(self):
        """Return all that a stream of four seconds says."""
        reply = ask(self.nexus.url, "/v1/chat/completions", chat(stream=True, max_tokens=40, text="x " * 8))
        events = [line for line in reply.body.decode().split("\n\n") if line.startswith("data: {")]
        return [json.loads(event[6:]) for event in events], reply.body


@pytest.fixture
def moving(simulate, start_nexus, tmp_path):
    return Moving(simulate, start_nexus, tmp_path)


@pytest.mark.timeout(60)
def test_a_busy_backend_is_asked_where_its_name_leads_now(moving):
    before = moving.who_answers()
    streamed = []
    streaming = Thread(target=lambda: streamed.append(moving.stream()[1]))
    streaming.start()
    until(lambda: moving.old.active)

    moving.move()
    moved_at = time.monotonic()
    until(lambda: moving.who_answers() == "new", within_s=20)
    followed_s = time.monotonic() - moved_at
    streaming.join()

    assert before == "old"
    # Each request takes a tenth of a second at the old one.
    assert followed_s < AGE_S + TTL_S + 1.5
    assert streamed[0].endswith(b"data: [DONE]\n\n")


@pytest.mark.timeout(60)
def test_idle_connections_and_those_of_probes_end_with_their_age(moving):
    moving.who_answers()
    until(lambda: moving.old.open_connections)

    moving.move()
    moved_at = time.monotonic()
    until(lambda: not moving.old.open_connections, within_s=20)

    assert time.monotonic() - moved_at < AGE_S + TTL_S + 1.5
