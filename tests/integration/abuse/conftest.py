"""A proxy with one backend, and a client that sends raw bytes."""

import asyncio
import hashlib
import json
import re
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import structlog
import uvloop

from nexus.proxy.client import body as receiving
from nexus.simulator import Settings, Simulator
from nexus.testing.proxy import nexus_in_loop
from nexus.testing.waiting import eventually
from tests.support.bookkeeping import DEFECTS, wait_until_nothing_is_held
from tests.support.dialects import CHAT, MODEL
from tests.support.raw_client import RawClient
from tests.support.scripted import Close, ScriptedBackend

CANARY = "c4n4ry-5aa1"
"""Part of every refused request; must not appear in a response or a log line."""
KEY = "the-one-key"
KEYED = f'api_keys = ["sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"]'
SCRIPTED = f"""
type = "generic"
protocols = ["openai", "ollama", "anthropic"]
[backends.models."{MODEL}"]
"""
PART_S = 0.02
"""The pause between two parts of a request, so that each is read alone."""
WITHIN_S = 5.0

CONFIG = """
[server]
{server}
[timeouts]
{timeouts}
[limits]
max_event_bytes = 1_048_576
[health_check]
enabled = {probed}
interval_seconds = 3600
# These reads have connections of their own, which are counted with the others.
load_interval_seconds = 0
[discovery]
enabled = false
[routing]
max_retries = {max_retries}
[[backends]]
name = "gpu-1"
url = "{url}"
{backend}
"""


def pytest_asyncio_loop_factories(config, item):
    """Run on the event loop of production."""
    return {"uvloop": uvloop.new_event_loop}


class Front:
    """A proxy, its backend and its clients."""

    def __init__(self, nexus, backend, log):
        self.nexus = nexus
        self.backend = backend
        self.log = log
        self.clients = []

    @property
    def port(self):
        return self.nexus.port

    @property
    def asked(self):
        """Return the requests that reached the backend, without probes."""
        return [record.request for record in self.backend.requests if record.request.header("X-Nexus-Hops")]

    def lines(self, event):
        return [line for line in self.log if line["event"] == event]

    async def connect(self, **options):
        client = await RawClient.connect(self.port, **options)
        self.clients.append(client)
        return client

    async def ask(self, wire=None, **request):
        """Send one request on a new connection, and return the response."""
        client = await self.connect()
        client.writer.write(wire or chat(**request))
        async with asyncio.timeout(WITHIN_S):
            reply = await client.reply()
        client.leave()
        return reply

    async def all_replies(self, *parts):
        """Send *parts*, and return all responses until the proxy closes the connection."""
        client = await self.connect()
        replies = []
        async with asyncio.timeout(WITHIN_S):
            for part in parts:
                client.writer.write(part)
                await asyncio.sleep(PART_S if len(parts) > 1 else 0)
            while not client.reader.at_eof():
                try:
                    replies.append(await client.reply())
                except asyncio.IncompleteReadError as exc:
                    if exc.partial:
                        raise
        client.leave()
        return replies

    async def refuses(self, *parts, status, code, protocol="openai"):
        """Check that *parts* get one such error, which is counted, and that the backend receives nothing."""
        asked, counted = len(self.asked), await self.counted(code)

        replies = await self.all_replies(*parts)

        assert [(reply.status, reply.code) for reply in replies] == [(status, code)]
        check_refusal(replies[0], protocol)
        assert replies[0].headers["connection"] == "close"
        assert len(self.asked) == asked
        assert await self.counted(code) == counted + 1

    async def counted(self, code):
        """Return how many requests failed with *code*."""
        metrics = (await self.ask(get("/metrics"))).body.decode()
        found = re.findall(rf'^nexus_(?:rejected|errors)_total{{[a-z_]+="{code}".*}} (\S+)$', metrics, re.MULTILINE)
        return sum(map(float, found))

    async def check_that_nothing_is_lost(self):
        await wait_until_nothing_is_held(self.nexus)
        if isinstance(self.backend, Simulator):
            await eventually(lambda: not self.backend.active)
            self.backend.faults.clear()
            assert (await self.ask(headers=f"Authorization: Bearer {KEY}\r\n")).status == 200
        assert [line for line in self.log if line["event"] in DEFECTS] == []
        assert CANARY not in repr(self.log)


def chat(body=None, *, headers="", version="1.1", **fields):
    """Return a well-formed request."""
    return CHAT.request(CHAT.body(stream=False, **fields) if body is None else body, headers=headers, version=version)


def raw(*lines, body=b"", target="/v1/chat/completions", method="POST", version="HTTP/1.1", host="Host: localhost"):
    """Return a request with exactly these lines and the canary."""
    head = [f"{method} {target} {version}", host, f"X-Canary: {CANARY}", "Content-Type: application/json", *lines]
    return "".join(f"{line}\r\n" for line in head if line).encode("latin-1") + b"\r\n" + body


def get(path, headers="", method="GET"):
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode()


def check_refusal(reply, protocol):
    """Check that *reply* is an error of *protocol*, and reveals nothing of the request."""
    assert reply.is_whole
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    assert CANARY not in repr(reply)
    document = json.loads(reply.body)
    error = document["error"]
    if protocol == "ollama":
        assert isinstance(error, str)
    else:
        assert isinstance(error["message"], str)
        assert isinstance(error["type"], str)
    if protocol == "openai":
        assert set(error) == {"message", "type", "param", "code"}
    if protocol == "anthropic":
        assert document["type"] == "error"


@asynccontextmanager
async def open_front(*scripts, server="", timeouts="", backend="", others="", max_retries=0, **settings):
    """Run a proxy in front of one backend, which plays *scripts*, or is a simulator with *settings*.

    :param server: lines for this table of the configuration, as *timeouts* and *backend* are.
    :param others: tables of further backends.
    """
    settings = {"kind": "vllm", "models": (MODEL,), "answer_tokens": 8, **settings}
    with structlog.testing.capture_logs() as log:
        async with ScriptedBackend([Close()]) if scripts else Simulator(Settings(name="gpu-1", **settings)) as behind:
            config = CONFIG.format(
                server=server,
                timeouts=timeouts,
                url=behind.url,
                backend=(backend + SCRIPTED if scripts else backend) + others,
                max_retries=max_retries,
                probed="false" if scripts else "true",
            )
            async with nexus_in_loop(config) as nexus:
                front = Front(nexus, behind, log)
                if scripts:
                    behind.play(*scripts)
                try:
                    yield front
                finally:
                    for client in front.clients:
                        client.leave()


@pytest.fixture(autouse=True)
def _short_linger(monkeypatch):
    """Shorten the time for which a refused connection is drained before it is closed."""
    monkeypatch.setattr(receiving, "LINGER_S", 0.1)


@pytest.fixture
async def front():
    """A proxy, checked for leaks after the test."""
    async with open_front() as front:
        yield front
        await front.check_that_nothing_is_lost()


@pytest.fixture
async def start_front():
    """Return a function that starts a proxy with other options."""
    async with AsyncExitStack() as running:

        async def start(*scripts, **options):
            front = await running.enter_async_context(open_front(*scripts, **options))
            running.push_async_callback(front.check_that_nothing_is_lost)
            return front

        yield start


@pytest.fixture(name="raw")
def raw_request():
    return raw


@pytest.fixture(name="chat")
def chat_request():
    return chat


@pytest.fixture(name="get")
def get_request():
    return get


@pytest.fixture(name="check_refusal")
def refusal_check():
    return check_refusal


@pytest.fixture
def keyed():
    """The configuration line that requires :data:`KEY`."""
    return KEYED


@pytest.fixture
def key():
    return KEY


@pytest.fixture
def canary():
    return CANARY
