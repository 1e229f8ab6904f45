"""A proxy between raw clients and faulty backends, checked for leaks after every test."""

import gc
import io
import json
from contextlib import AsyncExitStack

import pytest
import structlog
import uvloop

from nexus.config.schema import LoggingConfig
from nexus.observability.logging import logs
from nexus.simulator import Settings, Simulator
from nexus.testing.proxy import nexus_in_loop
from tests.support.bookkeeping import Books
from tests.support.dialects import DIALECTS, MODEL
from tests.support.raw_client import RawClient
from tests.support.scripted import Close, ScriptedBackend

CONFIG = """
[server]
request_timeout_seconds = {request_s}
stream_timeout_seconds = {stream_s}
[timeouts]
connect_seconds = {connect_s}
first_byte_seconds = {first_byte_s}
whole_answer_seconds = {first_byte_s}
stream_idle_seconds = {idle_s}
write_stall_seconds = {stall_s}
body_seconds = {body_s}
[limits]
max_event_bytes = {event_bytes}
[health_check]
enabled = false
interval_seconds = 3600
timeout_seconds = 1
# These reads have connections of their own, which the books would find open.
load_interval_seconds = 0
[discovery]
enabled = false
[queue]
max_size = {queue_size}
max_wait_seconds = {queue_s}
[routing]
strategy = "priority_only"
max_retries = {max_retries}
{routing}
"""
SETTINGS = {
    "request_s": 20.0,
    "stream_s": 20.0,
    "connect_s": 0.5,
    "first_byte_s": 5.0,
    "idle_s": 5.0,
    "stall_s": 5.0,
    "body_s": 5.0,
    "event_bytes": 1024 * 1024,
    "queue_size": 100,
    "queue_s": 5.0,
    "max_retries": 2,
    "routing": "",
}


def pytest_asyncio_loop_factories(config, item):
    """Run on the event loop of production."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session", autouse=True)
def _garbage_is_collected_per_test():
    """Freeze older objects: each test runs the garbage collector, and needs only its own."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _logs_are_those_of_nexus():
    logs.configure(LoggingConfig(), stream=io.StringIO())
    yield
    logs.shutdown()


@pytest.fixture(params=DIALECTS, ids=lambda dialect: dialect.name)
def dialect(request):
    return request.param


class Scene:
    """A proxy with its backends, its clients and its books."""

    def __init__(self, nexus, backends, log):
        self.nexus = nexus
        self.backends = backends
        self.books = Books(nexus, log)
        self.clients = []
        self.is_stopped = False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.nexus.port}"

    async def connect(self, **options):
        client = await RawClient.connect(self.nexus.port, **options)
        self.clients.append(client)
        return client

    async def ask(self, dialect, **request):
        """Send one request on a new connection, and return the response."""
        client = await self.connect()
        client.send(dialect, **request)
        reply = await client.reply()
        client.leave()
        return reply

    def backend(self, name):
        """Return the fleet's view of a backend."""
        return next(backend for backend in self.nexus.fleet.snapshot.backends if backend.name == name)

    @property
    def outcomes(self):
        return self.books.outcomes

    async def balance(self):
        for client in self.clients:
            client.leave()
        for backend in self.backends:
            if isinstance(backend, Simulator):
                backend.faults.clear()
        await self.books.balance(*self.backends, is_stopped=self.is_stopped)


def config_of(backends, options, settings):
    """Return a configuration with *backends*, the first one preferred."""
    parts = [CONFIG.format(**{**SETTINGS, **settings})]
    for place, (name, backend) in enumerate(backends.items(), start=1):
        kind = backend.settings.kind if isinstance(backend, Simulator) else "generic"
        fields = {"name": name, "url": backend.url, "type": kind, "priority": 10 * place, **options.get(name, {})}
        if kind == "generic":
            fields.setdefault("protocols", ["openai", "ollama", "anthropic"])
        models = fields.pop("models", {MODEL: {}})
        parts += ["[[backends]]", *(f"{key} = {json.dumps(value)}" for key, value in fields.items())]
        for model, facts in models.items():
            parts += [f"[backends.models.{json.dumps(model)}]", *(f"{k} = {json.dumps(v)}" for k, v in facts.items())]
    return "\n".join(parts)


@pytest.fixture
def config_text():
    """Return a function that writes the configuration for backends, by name."""

    def write(options=None, settings=None, **backends):
        return config_of(backends, options or {}, settings or {})

    return write


@pytest.fixture
async def start(script, simulate, config_text):
    """Return a function that starts a proxy in front of backends, by name; the test ends with ``balance``."""
    async with AsyncExitStack() as running:
        log = running.enter_context(structlog.testing.capture_logs())

        async def start_scene(**scenery):
            nexus = await running.enter_async_context(nexus_in_loop(config_text(**scenery)))
            backends = {name: it for name, it in scenery.items() if name not in ("options", "settings")}
            for backend in backends.values():
                if isinstance(backend, ScriptedBackend):
                    backend.attempts.clear()
            scene = Scene(nexus, tuple(backends.values()), log)
            running.push_async_callback(scene.balance)
            return scene

        yield start_scene


@pytest.fixture
async def script():
    """Return a function that starts a scripted backend, which at first closes every connection."""
    async with AsyncExitStack() as running:

        async def make(**options):
            return await running.enter_async_context(ScriptedBackend([Close()], **options))

        yield make


@pytest.fixture
async def simulate():
    """Return a function that starts a simulator."""
    async with AsyncExitStack() as running:

        async def make(name, **settings):
            settings = {"kind": "vllm", "models": (MODEL,), "answer_tokens": 8, **settings}
            return await running.enter_async_context(Simulator(Settings(name=name, **settings)))

        yield make
