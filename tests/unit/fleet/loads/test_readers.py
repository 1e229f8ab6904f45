"""The readers of a whole fleet are bounded together."""

import asyncio

import pytest

from nexus.config.schema import BackendConfig, HealthCheckConfig
from nexus.domain.backend import Status
from nexus.domain.backend_load import BackendLoad
from nexus.domain.kinds import ServerFacts
from nexus.fleet.fetching import FetchResponse
from nexus.fleet.kinds import KINDS
from nexus.fleet.loads.readers import READS_AT_ONCE, LoadReaders
from nexus.fleet.membership.member import Member
from nexus.fleet.membership.registry import Registry
from nexus.testing.waiting import eventually

CONFIG = HealthCheckConfig(load_interval_seconds=0.01)
PAGE = b"vllm:num_requests_running 1\nvllm:num_requests_waiting 0\n"


class Servers:
    """Answers when it is told to, and counts how many wait for an answer."""

    def __init__(self):
        self.may_answer = asyncio.Event()
        self.waiting = {}
        self.most = {}
        self.at_once = 0

    async def get(self, target, path, **_):
        self.waiting[target.url] = self.waiting.get(target.url, 0) + 1
        self.most[target.url] = max(self.most.get(target.url, 0), self.waiting[target.url])
        self.at_once = max(self.at_once, sum(self.waiting.values()))
        try:
            await self.may_answer.wait()
        finally:
            self.waiting[target.url] -= 1
        assert path == "/metrics"
        return FetchResponse(200, {}, PAGE)


@pytest.fixture
async def fleet():
    servers, registry = Servers(), Registry()
    readers = LoadReaders(registry, servers, chance=lambda: 0.5)
    for number in range(3 * READS_AT_ONCE):
        member = Member(config=BackendConfig(name=f"gpu-{number}", url=f"http://gpu-{number}"), kind=KINDS["vllm"])
        load = BackendLoad()
        load.acquire()
        registry.add(member.row(load, Status.HEALTHY))
        registry.update(member.id, last_check_at=1.0)
        readers.watch(member, CONFIG, facts=ServerFacts, learn_slots=lambda _: None)
    yield servers, registry, readers
    await readers.stop()


async def test_a_fleet_is_read_a_few_at_a_time_and_each_backend_by_one_request(fleet):
    servers, registry, _ = fleet
    await eventually(lambda: servers.at_once == READS_AT_ONCE)
    await asyncio.sleep(0.05)
    assert servers.at_once == READS_AT_ONCE

    servers.may_answer.set()
    await eventually(lambda: all(row.load.told for row in registry.snapshot.backends))

    assert set(servers.most.values()) == {1}
    assert servers.at_once <= READS_AT_ONCE


async def test_a_backend_that_leaves_is_read_no_more(fleet):
    servers, registry, readers = fleet
    await eventually(lambda: servers.at_once == READS_AT_ONCE)

    for row in registry.snapshot.backends:
        readers.unwatch(row.id)

    await eventually(lambda: sum(servers.waiting.values()) == 0)
    assert readers.counts.results == {}
