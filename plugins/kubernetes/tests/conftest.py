"""A fake API server, and a discoverer that follows it."""

import asyncio
import importlib.util
from contextlib import aclosing
from pathlib import Path

import pytest

from nexus.testing.waiting import eventually
from nexus_kubernetes.config import KubernetesConfig, ServiceConfig
from nexus_kubernetes.discoverer import KubernetesDiscoverer
from nexus_kubernetes.following import Pace

pytest_plugins = ["nexus.testing.fixtures"]

QUICK = Pace(first_retry_s=0.01, max_retry_s=0.05, settled_s=5.0, min_watch_s=0.01, gather_s=0.01, vanished_s=0.3)


@pytest.fixture(scope="session")
def fake_api():
    """Give the module of the fake API server."""
    path = Path(__file__).with_name("fake_api.py")
    spec = importlib.util.spec_from_file_location("fake_api", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def api(fake_api, aiohttp_server):
    """Give a started API server with one namespace, ``llm``."""
    api = fake_api.FakeApi()
    server = await aiohttp_server(api.app)
    api.url = str(server.make_url("/")).rstrip("/")
    yield api
    api.end_watches()


@pytest.fixture
def configured(api, fake_api, tmp_path):
    """Give what makes a configuration that leads to that API server."""

    def make(*services, namespace="llm", context=None):
        path = tmp_path / "kubeconfig"
        path.write_text(fake_api.kubeconfig(api.url, namespace))
        chosen = services or (ServiceConfig(service="vllm"),)
        return KubernetesConfig(services=chosen, kubeconfig=str(path), context=context)

    return make


class Looking:
    """A discoverer at work."""

    def __init__(self, discoverer):
        self.discoverer = discoverer
        self.looks = []

    def start(self):
        self._task = asyncio.ensure_future(self.run())

    async def stop(self):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def run(self):
        async with aclosing(self.discoverer.watch()) as looks:
            async for seen in looks:
                self.looks.append(seen)

    @property
    def urls(self):
        return {found.name: found.url for found in self.looks[-1]} if self.looks else None

    async def until(self, claim):
        """Wait until *claim* holds."""
        await eventually(claim, within_s=15.0)

    async def until_found(self, **urls):
        """Wait until exactly these are found."""
        wanted = {name.replace("_", "-"): url for name, url in urls.items()}
        await eventually(lambda: self.urls == wanted, lambda: f"found {self.urls} instead of {wanted}", within_s=15.0)


@pytest.fixture
async def look(configured):
    """Give what starts a discoverer."""
    running = []

    def start(*services, **options):
        looking = Looking(KubernetesDiscoverer(configured(*services, **options), QUICK))
        looking.start()
        running.append(looking)
        return looking

    yield start
    for looking in running:
        await looking.stop()
