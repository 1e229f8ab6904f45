"""A server of each kind that is installed, and stores in it."""

import importlib.util
import itertools
from pathlib import Path

import pytest

from nexus_redis.config import RedisConfig
from nexus_redis.store import RedisStore

pytest_plugins = ["nexus.testing.fixtures"]

_spec = importlib.util.spec_from_file_location("real_server", Path(__file__).with_name("real_server.py"))
real_server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(real_server)

PROGRAMS = real_server.programs()
NONE = "no redis-server or valkey-server is installed"
_prefixes = map("test{}".format, itertools.count())


@pytest.fixture(scope="session", params=sorted(PROGRAMS) or [pytest.param(None, marks=pytest.mark.skip(reason=NONE))])
def server(request):
    """A running server of each installed kind."""
    server = real_server.RealServer(PROGRAMS[request.param])
    try:
        yield server.start()
    finally:
        server.end()


@pytest.fixture(scope="session")
def program():
    """The program of one server, for tests that start their own."""
    return PROGRAMS[min(PROGRAMS)] if PROGRAMS else pytest.skip(NONE)


@pytest.fixture
def own_server(program):
    """Start servers that a test may stop: ``own_server("--maxmemory", "1mb")``."""
    servers = []

    def start(*options, durable=False):
        servers.append(real_server.RealServer(program, *options, durable=durable))
        return servers[-1].start()

    yield start
    for server in servers:
        server.end()


@pytest.fixture(scope="session")
def new_store():
    """Make an unopened store with no entries: ``new_store(server)``."""

    def make(server, **keys):
        return RedisStore(RedisConfig(**{"url": server.url, "prefix": next(_prefixes), **keys}))

    return make
