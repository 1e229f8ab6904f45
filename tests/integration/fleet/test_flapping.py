"""A server that comes and goes two hundred times, by each discoverer: nothing of it is left over."""

import asyncio
import gc
import json
import uuid
from functools import partial
from pathlib import Path

import pytest
import structlog
from dnslib import RCODE
from zeroconf import IPVersion
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from nexus.config.discovery_schema import DiscoveryConfig, DnsSourceConfig, FileSourceConfig
from nexus.config.one_backend import load_backend
from nexus.fleet.discovery.dns import answers as dns_answers
from nexus.fleet.discovery.dns.discoverer import DnsDiscoverer
from nexus.fleet.discovery.files.discoverer import FileDiscoverer
from nexus.fleet.discovery.mdns.announcer import own_addresses
from nexus.fleet.discovery.mdns.discoverer import MdnsDiscoverer
from nexus.fleet.kinds import KINDS

FLAPS, WARM_UP = 200, 30
MOST_OBJECTS = 300
"""That may be more after so many flaps; one for each of them would be a leak."""
SETTLE_TURNS = 50
"""How often to look, a tenth of a second apart, until what is closing is closed."""
OPEN = DiscoveryConfig(enabled=False, grace_period_seconds=0, trust="all")


def held():
    gc.collect()
    tasks = sorted(task.get_name() for task in asyncio.all_tasks() if not task.get_name().startswith("Task-"))
    return len(gc.get_objects()), tasks, sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture(autouse=True)
def quiet():
    """Keep no line of the log: what a test keeps is not what the fleet keeps."""
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def flap(plan, start, quiet):
    """Let a server come and go by one discoverer, and compare what is held after few flaps and after many."""

    def held_by_fleet(server):
        quiet.clear()
        server.requests.clear()
        server.asked.clear()
        return held()

    async def flap(server, discoverer, come, go):
        fleet = await start(plan(discovery=OPEN), discoverers=[discoverer])
        is_changed = asyncio.Event()
        fleet.on_change(lambda _: is_changed.set())

        async def until(claim):
            async with asyncio.timeout(10):
                while not claim():
                    is_changed.clear()
                    await is_changed.wait()

        for number in range(FLAPS):
            if number == WARM_UP:
                before = held_by_fleet(server)
            await come()
            await until(lambda: fleet.snapshot.having("tiny"))
            await go()
            await until(lambda: not fleet.snapshot.backends)
        # Connections of the last probes close in turns of the loop; what leaks stays however long it is waited for.
        for _ in range(SETTLE_TURNS):
            objects, tasks, files = held_by_fleet(server)
            if objects - before[0] < MOST_OBJECTS and tasks == before[1] and files <= before[2]:
                break
            await asyncio.sleep(0.1)

        assert objects - before[0] < MOST_OBJECTS
        assert tasks == before[1]
        assert files <= before[2] + 2

    return flap


def doing(action):
    async def act():
        action()

    return act


async def test_by_dns(flap, serve, zone, monkeypatch):
    server = await serve("vllm", "tiny")
    monkeypatch.setattr(dns_answers, "MIN_TTL_S", 0.005)
    source = DnsSourceConfig(name="_llm._tcp.one.test", type="vllm")

    await flap(
        server,
        DnsDiscoverer([source], (f"127.0.0.1:{zone.port}",)),
        doing(lambda: zone.serve(source.name, server.port, ttl=0)),
        doing(lambda: zone.codes.update({source.name: RCODE.NXDOMAIN})),
    )


async def test_by_a_file(flap, serve, tmp_path):
    server, file = await serve("vllm", "tiny"), tmp_path / "fleet.json"
    file.write_text("[]")
    listed = json.dumps([{"name": "gpu", "url": server.url}])

    await flap(
        server,
        FileDiscoverer([FileSourceConfig(path=str(file))], partial(load_backend, environ={}), KINDS, look_s=0.005),
        doing(lambda: file.write_text(listed)),
        doing(lambda: file.write_text("[]")),
    )


@pytest.mark.skipif(not own_addresses(), reason="this machine has no network")
async def test_by_mdns(flap, serve):
    """Without a goodbye: one takes effect after a second (RFC 6762, section 10.1)."""
    server = await serve("vllm", "tiny", host="0.0.0.0")
    is_reached = asyncio.Event()

    async def reach(host, port):
        return is_reached.is_set()

    service_type = f"_t{uuid.uuid4().hex[:10]}._tcp.local."
    info = AsyncServiceInfo(
        service_type,
        f"desk.{service_type}",
        port=server.port,
        parsed_addresses=own_addresses()[:1],
        server=f"desk-{uuid.uuid4().hex[:10]}.local.",
    )
    network = AsyncZeroconf(ip_version=IPVersion.V4Only)
    try:
        await network.async_register_service(info, cooperating_responders=True)
        discoverer = MdnsDiscoverer([service_type], interval_s=0.01, accepts=reach)
        await flap(server, discoverer, doing(is_reached.set), doing(is_reached.clear))
    finally:
        await network.async_close()
