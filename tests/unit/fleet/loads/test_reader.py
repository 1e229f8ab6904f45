"""One reader reads one page after the other, and a failure costs nothing but the report's weight."""

import asyncio
import random

import pytest
from multidict import CIMultiDict

from nexus.config.schema import BackendConfig, HealthCheckConfig
from nexus.domain.backend import Status
from nexus.domain.backend_load import BackendLoad
from nexus.domain.kinds import ServerFacts
from nexus.fleet.fetching import FetchError, FetchResponse
from nexus.fleet.kinds import KINDS
from nexus.fleet.loads import reader as module
from nexus.fleet.loads.counts import ReadCounts
from nexus.fleet.loads.reader import LoadReader
from nexus.fleet.membership.member import Member
from nexus.fleet.membership.registry import Registry

METRICS = b"llamacpp:requests_processing 3\nllamacpp:requests_deferred 2\nllamacpp:prompt_tokens_total 9\n"
VLLM = b'vllm:num_requests_running{engine="0"} 3\nvllm:num_requests_waiting{engine="0"} 2\nvllm:prompt_tokens_total 9\n'
AWAKE = b'{"model_alias":"tiny","total_slots":2,"is_sleeping":false}'
ASLEEP = b'{"model_alias":"tiny","total_slots":2,"is_sleeping":true}'
SLOTS = b'[{"id":0,"is_processing":true},{"id":1,"is_processing":false}]'


NOTHING, DEFAULTS = ServerFacts(), HealthCheckConfig()


class Server:
    """Answers each path with the response that is set for it, otherwise with 404."""

    def __init__(self):
        self.answers = {}
        self.paths = []
        self.during = lambda: None

    async def get(self, target, path, *, timeout_s, max_bytes):
        assert target.url == "http://gpu.test:8000"
        assert (timeout_s, max_bytes) == (3.0, 1024 * 1024)
        self.paths.append(path)
        self.during()
        answer = self.answers.get(path, 404)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return FetchResponse(answer, {}, b"")
        return answer if isinstance(answer, FetchResponse) else FetchResponse(200, {}, answer)


class Watched:
    """One backend and its reader."""

    def __init__(self, kind, *, learned=NOTHING, config=DEFAULTS):
        self.server = Server()
        self.registry = Registry()
        self.load = BackendLoad()
        self.counts = ReadCounts()
        self.active = set()
        self.slots = []
        member = Member(config=BackendConfig(name="gpu", url="http://gpu.test:8000"), kind=KINDS[kind])
        self.id = member.id
        self.registry.add(member.row(self.load, Status.HEALTHY))
        self.registry.update(self.id, last_check_at=1.0)
        self.reader = LoadReader(
            member,
            fetcher=self.server,
            registry=self.registry,
            config=config,
            counts=self.counts,
            gate=asyncio.Semaphore(1),
            active=self.active,
            facts=lambda: learned,
            learn_slots=self.slots.append,
            chance=random.Random(1).random,
        )

    async def read(self, now=100.0):
        """Read if it is due, and return whether it was."""
        row = self.registry.row(self.id)
        is_due = self.reader._is_due(row, now)
        if is_due:
            await self.reader.read(row)
        return is_due

    @property
    def results(self):
        return {str(result): count for result, count in self.counts.results.get("gpu", {}).items()}


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of the reader."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(module, "monotonic", lambda: Clock.now)
    return Clock


async def test_a_report_reaches_the_load_of_its_backend(clock):
    gpu = Watched("vllm")
    gpu.server.answers["/metrics"] = VLLM

    await gpu.read()

    told = gpu.load.told
    assert (told.running, told.waiting, told.own_requests, told.at) == (3, 2, 0, 1000.0)
    assert gpu.load.other_requests(clock.now) == 5
    assert gpu.results == {"success": 1}


async def test_own_requests_are_not_counted_twice():
    gpu = Watched("vllm")
    gpu.server.answers["/metrics"] = VLLM
    gpu.load.acquire()
    # One more arrives while the engine counts.
    gpu.server.during = gpu.load.acquire

    await gpu.read()

    assert gpu.load.other_requests(gpu.load.told.at) == 3


async def test_an_idle_backend_is_read_once_after_each_probe():
    gpu = Watched("vllm")
    gpu.server.answers["/metrics"] = VLLM

    assert [await gpu.read(), await gpu.read()] == [True, False]
    gpu.registry.update(gpu.id, last_check_at=2.0)
    assert await gpu.read()


async def test_a_backend_with_requests_is_read_every_time():
    gpu = Watched("vllm")
    gpu.server.answers["/metrics"] = VLLM
    gpu.load.acquire()

    assert [await gpu.read(), await gpu.read()] == [True, True]
    assert gpu.active == {gpu.id}

    gpu.load.release()
    assert [await gpu.read(129.9), await gpu.read(130.0)] == [True, False]
    assert gpu.active == set()


@pytest.mark.parametrize("fields", [{"status": Status.UNHEALTHY}, {"status": Status.LOADING}, {"is_refusing": True}])
async def test_a_backend_that_is_down_is_only_probed(fields):
    gpu = Watched("vllm")
    gpu.registry.update(gpu.id, **fields)
    gpu.load.acquire()

    assert not await gpu.read()


async def test_a_page_that_is_not_there_is_asked_for_again_only_after_an_hour(clock):
    gpu = Watched("llamacpp")
    gpu.server.answers = {"/metrics": 501, "/slots": SLOTS}
    gpu.load.acquire()

    await gpu.read()
    await gpu.read()
    clock.now += 3600.0
    await gpu.read()

    assert gpu.server.paths == ["/metrics", "/slots", "/slots", "/metrics", "/slots"]
    assert (gpu.load.told.running, gpu.load.told.waiting) == (1, None)
    assert gpu.results == {"absent": 2, "success": 3}


async def test_a_restarted_server_is_asked_for_all_pages_again():
    gpu = Watched("llamacpp")
    gpu.server.answers = {"/metrics": 501, "/slots": SLOTS}
    gpu.load.acquire()
    await gpu.read()

    gpu.server.answers["/metrics"] = METRICS
    gpu.load.restarted()
    await gpu.read()

    assert gpu.load.told.waiting == 2


async def test_a_server_without_any_page_says_what_would_help():
    gpu = Watched("llamacpp")
    gpu.server.answers = {"/metrics": 501, "/slots": 501, "/models": 404}
    gpu.load.acquire()

    await gpu.read()

    assert gpu.load.told is None
    assert gpu.load.report_in_words(0.0) == (
        "no report, only requests of Nexus count (start it with --metrics; /metrics: HTTP 501)"
    )


async def test_a_server_that_reports_only_its_memory_says_what_would_help():
    gpu = Watched("llamacpp")
    gpu.server.answers = {"/metrics": 501, "/slots": 501, "/props": ASLEEP}
    gpu.load.acquire()

    await gpu.read()

    assert gpu.server.paths == ["/metrics", "/slots", "/props"]
    assert "count (start it with --metrics; /metrics: HTTP 501)" in gpu.load.report_in_words(0.0)


async def test_a_llamacpp_that_may_sleep_is_not_woken():
    gpu = Watched("llamacpp", learned=ServerFacts(version="b10434-f00d"))
    gpu.server.answers = {"/metrics": METRICS, "/props": ASLEEP}

    await gpu.read()

    assert gpu.server.paths == ["/props"]
    assert gpu.load.told.loaded == frozenset()


async def test_a_restart_shows_though_the_server_was_idle_meanwhile():
    gpu = Watched("llamacpp")
    gpu.server.answers = {"/metrics": run_of("1", METRICS), "/props": AWAKE}
    gpu.load.acquire()
    await gpu.read()
    gpu.load.release()
    await gpu.read()
    gpu.server.answers["/metrics"] = run_of("2", METRICS)
    gpu.load.acquire()

    await gpu.read()

    assert gpu.server.paths == ["/metrics", "/props", "/metrics"]
    assert gpu.load.restarts == 1


def run_of(name, page):
    return FetchResponse(200, CIMultiDict({"Process-Start-Time-Unix": name}), page)


async def test_a_router_is_asked_for_its_models():
    gpu = Watched("llamacpp", learned=ServerFacts(max_loaded=4))
    models = b'{"data":[{"id":"a","status":{"value":"loaded"}},{"id":"b","status":{"value":"loading"}}]}'
    gpu.server.answers = {"/metrics": 400, "/slots": 400, "/models": models}

    await gpu.read()

    told = gpu.load.told
    assert (told.loaded, told.loading, told.max_loaded) == ({"a"}, {"b"}, 4)


async def test_an_older_llamacpp_is_not_asked_again_whether_it_sleeps(clock):
    gpu = Watched("llamacpp")
    gpu.server.answers = {"/props": b'{"total_slots":2}', "/models": b'{"data":[{"id":"a"}]}'}

    await gpu.read()
    clock.now += 120.0
    gpu.registry.update(gpu.id, last_check_at=2.0)
    await gpu.read()

    assert gpu.server.paths == ["/props", "/models"]
    assert gpu.results == {"absent": 2}
    assert gpu.load.no_report == "read only while requests run there, so that the server can sleep"


async def test_a_page_that_is_no_report_is_asked_for_again_after_a_minute(clock):
    gpu = Watched("vllm")
    gpu.server.answers["/metrics"] = b"<html>"
    gpu.load.acquire()

    await gpu.read()
    await gpu.read()
    clock.now += 60.0
    await gpu.read()

    assert gpu.server.paths == ["/metrics", "/metrics"]
    assert gpu.results == {"unreadable": 2}
    assert "not a report" in gpu.load.no_report


@pytest.mark.parametrize("failure", [FetchError("connection failed: reset"), 503, 500, 429])
async def test_a_failed_read_only_takes_the_weight_of_the_last_report(clock, failure):
    gpu = Watched("vllm")
    gpu.server.answers["/metrics"] = VLLM
    gpu.load.acquire()
    await gpu.read()

    gpu.server.answers["/metrics"] = failure
    clock.now += 1.0
    await gpu.read()

    assert gpu.load.told.weight(clock.now) == 1.0
    assert gpu.load.told.weight(clock.now + 2.0) == pytest.approx(0.368, abs=0.001)
    assert gpu.registry.row(gpu.id).status is Status.HEALTHY
    assert gpu.results == {"success": 1, "failure": 1}


@pytest.mark.parametrize("page", [VLLM.replace(b"total 9", b"total 8"), b"process_start_time_seconds 2\n" + VLLM])
async def test_a_restart_shows_in_the_report(page):
    gpu = Watched("vllm")
    gpu.load.acquire()
    gpu.server.answers["/metrics"] = b"process_start_time_seconds 1\n" + VLLM
    await gpu.read()

    gpu.server.answers["/metrics"] = page
    await gpu.read()

    assert gpu.load.restarts == 1
    assert gpu.load.told is not None


async def test_a_restart_that_a_probe_has_noticed_is_not_counted_again():
    gpu = Watched("vllm")
    gpu.load.acquire()
    gpu.server.answers["/metrics"] = VLLM
    await gpu.read()

    gpu.load.restarted()
    gpu.server.answers["/metrics"] = VLLM.replace(b"total 9", b"total 1")
    await gpu.read()

    assert gpu.load.restarts == 1


async def test_a_header_may_show_the_restart():
    gpu = Watched("llamacpp")
    gpu.load.acquire()
    for started in ("1", "1", "2"):
        gpu.server.answers["/metrics"] = FetchResponse(200, {"Process-Start-Time-Unix": started}, METRICS)
        await gpu.read()

    assert gpu.load.restarts == 1


@pytest.mark.parametrize(("known", "slots"), [(None, [32]), (8, [])])
async def test_slots_are_learnt_from_a_report_unless_probes_know_them(known, slots):
    gpu = Watched("sglang", learned=ServerFacts(max_in_flight=known))
    gpu.server.answers["/v1/loads"] = (
        b'{"loads":[{"num_running_reqs":1,"num_waiting_reqs":0,"max_running_requests":32}]}'
    )

    await gpu.read()

    assert gpu.slots == slots


async def test_zero_switches_the_reads_off():
    gpu = Watched("vllm", config=HealthCheckConfig(load_interval_seconds=0.0))

    await gpu.reader.run()

    assert gpu.server.paths == []
    assert "load_interval_seconds is 0" in gpu.load.report_in_words(0.0)
