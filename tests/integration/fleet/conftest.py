"""Fake servers of each kind, on loopback."""

import contextlib
from functools import partial

import pytest
from aiohttp import web

from nexus.config.discovery_schema import DiscoveryConfig
from nexus.config.schema import BackendConfig, HealthCheckConfig
from nexus.fleet.fleet import Fleet
from nexus.fleet.plan import plan_fleet
from nexus.fleet.sharing.publisher import Publisher
from nexus.testing import waiting
from nexus.testing.ports import free_port
from tests.support.followers import following
from tests.support.name_server import NameServer


class FakeServer:
    """Serves the given response for each path, and records requests."""

    def __init__(self, answers, *, host="127.0.0.1", port=0, headers=None, ssl=None):
        self.answers = dict(answers)
        self.headers = headers or {}
        self.asked = []
        self.requests = []
        self._host = host
        self._port = port
        self._ssl = ssl
        self._runner = None

    async def start(self):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, ssl_context=self._ssl, reuse_address=True)
        await site.start()
        self._port = site._server.sockets[0].getsockname()[1]

    async def stop(self):
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def port(self):
        return self._port

    @property
    def url(self):
        return f"{'https' if self._ssl else 'http'}://127.0.0.1:{self._port}"

    async def _answer(self, request):
        self.asked.append(f"{request.method} {request.path_qs}")
        self.requests.append(request)
        answer = self.answers.get(request.path, 404)
        if callable(answer):
            answer = await answer(request)
        if isinstance(answer, web.StreamResponse):
            return answer
        if isinstance(answer, int):
            return web.Response(status=answer, headers=self.headers)
        if isinstance(answer, bytes):
            return web.Response(body=answer, headers=self.headers)
        return web.json_response(answer, headers=self.headers)


async def _show(request):
    asked = await request.json()
    return {"capabilities": ["completion", "tools"], "model_info": {f"{asked['model'][:5]}.context_length": 8192}}


def openai_list(*ids, **fields):
    return {"object": "list", "data": [{"id": model, "object": "model", **fields} for model in ids]}


REAL = {
    "ollama": lambda *models: {
        "/": b"Ollama is running",
        "/api/version": {"version": "0.33.0"},
        "/api/tags": {"models": [{"name": model, "digest": f"digest-of-{model}"} for model in models]},
        "/api/show": _show,
        "/v1/models": openai_list(*models, owned_by="library"),
    },
    "vllm": lambda *models: {
        "/health": b"",
        "/version": {"version": "0.32.0"},
        "/v1/models": openai_list(*models, owned_by="vllm", max_model_len=4096),
    },
    "sglang": lambda *models: {
        "/health": 500,
        "/model_info": {"model_path": "/m", "has_image_understanding": True, "is_generation": True},
        "/v1/models": openai_list(*models, owned_by="sglang", max_model_len=2048),
        "/api/tags": {"models": []},
    },
    "llamacpp": lambda *models: {
        "/health": {"status": "ok"},
        "/props": {
            "total_slots": 3,
            "build_info": "b6000",
            "default_generation_settings": {"n_ctx": 1024},
            "modalities": {"vision": True},
        },
        "/v1/models": openai_list(*models, owned_by="llamacpp"),
    },
    "lmstudio": lambda *models: {
        "/v1/models": openai_list(*models, owned_by="organization_owner"),
        "/api/v1/models": {"models": [{"type": "llm", "key": model, "max_context_length": 512} for model in models]},
        "/api/version": {"error": "Unexpected endpoint or method. (GET /api/version)"},
    },
    "exo": lambda *models: {"/node_id": lambda _: _json("node-1"), "/v1/models": openai_list(*models)},
    "generic": lambda *models: {"/v1/models": openai_list(*models)},
}
"""The responses of a server with these models, by kind."""


async def _json(value):
    return web.json_response(value)


@pytest.fixture
async def serve():
    """Return a function that starts a server of a kind with models, or with other responses."""
    servers = []

    async def serve(kind=None, *models, answers=None, **options):
        server = FakeServer(REAL[kind](*models) if kind else {}, **options)
        server.answers.update(answers or {})
        await server.start()
        servers.append(server)
        return server

    yield serve
    for server in servers:
        await server.stop()


FAST = HealthCheckConfig(interval_seconds=0.05, timeout_seconds=1.0)
STILL = HealthCheckConfig(interval_seconds=600.0, timeout_seconds=1.0)
"""No periodic probes."""


@pytest.fixture
def plan():
    """Return a function that plans a fleet of servers by name, each a URL or the keys of a backend."""

    def plan(health_check=STILL, discovery=None, kinds=(), secrets=None, **backends):
        return plan_fleet(
            [
                BackendConfig(name=name, **({"url": told} if isinstance(told, str) else told))
                for name, told in backends.items()
            ],
            health_check=health_check,
            discovery=discovery or DiscoveryConfig(enabled=False),
            kinds=kinds,
            secrets=secrets,
        )

    return plan


@pytest.fixture
async def start():
    """Return a function that starts a fleet, and waits for its first probes."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(plan, **options):
            fleet = Fleet(plan, **options)
            await fleet.start()
            stack.push_async_callback(fleet.stop)
            assert await fleet.wait_first_probes(5.0)
            return fleet

        yield start


@pytest.fixture
async def share():
    """Return a function that lets processes follow a fleet: it returns the publisher and the followers."""
    async with contextlib.AsyncExitStack() as stack:

        async def share(fleet, plan, count=2, store=None):
            publisher = Publisher(fleet, store)
            if store is not None:
                await store.open()
                stack.push_async_callback(store.close)
            await publisher.start()
            stack.push_async_callback(publisher.stop)
            return publisher, await stack.enter_async_context(following(publisher, plan, count))

        yield share


@pytest.fixture
def eventually():
    return partial(waiting.eventually, within_s=3.0)


@pytest.fixture(name="free_port")
def a_free_port():
    return free_port()


@pytest.fixture
def fast():
    return FAST


@pytest.fixture
def still():
    return STILL


@pytest.fixture
def zone():
    """A name server with no records."""
    with NameServer() as zone:
        yield zone
