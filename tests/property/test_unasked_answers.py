"""However a backend sends answers that no request asked for, no client gets one, nor the answer to another client."""

import asyncio
import itertools
import json
import re
import socket
from contextlib import AsyncExitStack, suppress
from unittest import mock

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.proxy.upstream import pool
from nexus.testing.proxy import nexus_in_loop
from tests.support.dialects import CHAT, MODEL
from tests.support.raw_client import RawClient

CLIENTS = 8
ROUNDS = 6
CONFIG = """
[health_check]
enabled = false
[discovery]
enabled = false
[[backends]]
name = "gpu-1"
url = "http://127.0.0.1:{port}"
type = "generic"
[backends.models."{model}"]
"""
UNASKED = "unasked"


def answer(name):
    body = json.dumps({"id": name, "choices": [{"index": 0, "message": {"role": "assistant", "content": name}}]})
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


class Backend(asyncio.Protocol):
    """Answers each request with the name that is in it, and sends a surplus answer as the next plan says.

    It never sends the surplus while a request has arrived and is not answered: no proxy could tell it from the answer.
    """

    def __init__(self, scene):
        self.scene = scene

    def connection_made(self, transport):
        self.transport = transport
        self.socket = transport.get_extra_info("socket")
        self.received = b""

    def data_received(self, data):
        self.received += data
        if found := re.search(rb'"client-\d+-\d+"', self.received):
            self.received = b""
            self.play(answer(found.group().decode().strip('"')), *next(self.scene.plans))

    def play(self, right, moment, delay_s, cut):
        surplus = answer(UNASKED)
        match moment:
            case "behind":
                self.transport.write(right + surplus)
            case "split":
                self.transport.write(right + surplus[:cut])
                self.later(delay_s, surplus[cut:])
            case "after":
                self.transport.write(right)
                self.transport.write(surplus)
            case "late":
                self.transport.write(right)
                self.later(delay_s, surplus)
            case "late and split":
                self.transport.write(right)
                self.later(delay_s, surplus[:cut])
                self.later(delay_s * 1.5, surplus[cut:])
            case _:
                self.transport.write(right)

    def later(self, delay_s, surplus):
        asyncio.get_running_loop().call_later(delay_s, self.send_if_silent, surplus)

    def send_if_silent(self, surplus):
        if self.received or self.transport.is_closing():
            return
        with suppress(OSError), socket.socket(fileno=socket.dup(self.socket.fileno())) as peeking:
            with suppress(BlockingIOError):
                if peeking.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                    return
            self.transport.write(surplus)


async def talk(port, number):
    """Ask again and again on one connection; return what was asked and answered."""
    client = await RawClient.connect(port)
    told = []
    for turn in range(ROUNDS):
        name = f"client-{number}-{turn}"
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": name}]}).encode()
        client.send(CHAT, body=body)
        reply = await client.reply()
        told.append((name, json.loads(reply.body)["id"] if reply.status == 200 else reply.code))
    client.leave()
    return told


class Scene:
    """A proxy in front of such a backend, on a loop that goes on from one example to the next."""

    def __init__(self, runner):
        self.runner = runner
        self.plans = iter(())

    async def start(self, running):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Backend(self), "127.0.0.1", 0)
        running.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        self.nexus = await running.enter_async_context(nexus_in_loop(CONFIG.format(port=port, model=MODEL)))

    def told(self, plans):
        """Let clients ask, while the backend acts by *plans*; return what they asked and were told, and the reuses."""
        self.plans = itertools.cycle(plans)
        self.nexus.plane.upstreams.close()
        counts = self.nexus.plane.upstreams.counts.setdefault("gpu-1", pool.ConnectionCounts())
        counts.no_reuse_until, before = 0.0, counts.reused
        told = self.runner.run(self._ask())
        return told, counts.reused - before

    async def _ask(self):
        told = await asyncio.gather(*(talk(self.nexus.port, number) for number in range(CLIENTS)))
        return [pair for pairs in told for pair in pairs]


@pytest.fixture(scope="module", params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def scene(request):
    with asyncio.Runner(loop_factory=request.param) as runner:
        running = AsyncExitStack()
        scene = Scene(runner)
        runner.run(scene.start(running))
        yield scene
        runner.run(running.aclose())


plan = st.tuples(
    st.sampled_from(["none", "none", "behind", "split", "after", "late", "late and split"]),
    st.integers(0, 30).map(lambda number: number * 50e-6),
    st.integers(1, len(answer(UNASKED)) - 1),
)


@settings(max_examples=50)
@given(plans=st.lists(plan, min_size=1, max_size=12))
def test_no_client_gets_the_answer_of_another(scene, plans):
    # Without its consequences, a backend that does it once can do it again and again.
    with mock.patch.object(pool, "NO_REUSE_S", 0.0):
        told, _ = scene.told(plans)

    assert [pair for pair in told if pair[1] not in (pair[0], "bad_gateway")] == []


def test_a_backend_that_keeps_to_its_turn_is_asked_on_kept_connections(scene):
    told, reused = scene.told([("none", 0.0, 1)])

    assert [pair for pair in told if pair[0] != pair[1]] == []
    assert reused >= len(told) - CLIENTS


def test_clients_of_a_backend_that_does_it_at_each_answer_notice_nothing(scene):
    told, reused = scene.told([("behind", 0.0, 1)])

    assert [pair for pair in told if pair[0] != pair[1]] == []
    assert reused == 0
