"""The whole fleet: started, probed, reported to, reloaded and stopped."""

import asyncio
import errno
import os
import time

import pytest
import structlog

from nexus.config.discovery_schema import DiscoveryConfig
from nexus.config.schema import HealthCheckConfig, ModelConfig
from nexus.dialing import dial
from nexus.domain.backend import Breaker, Status
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.error_codes import UpstreamFault
from nexus.fleet.discovery.discoverer import Discovered, Discoverer
from nexus.fleet.membership.registry import BackendNotFound


def row(fleet, name="gpu"):
    return next(backend for backend in fleet.snapshot.backends if backend.name == name)


def outcome(backend, fault=None, **fields):
    ending = Ending.FINISHED if fault is None else Ending.BACKEND_FAILED
    return AttemptOutcome(
        backend=backend.name, backend_id=backend.id, model="tiny", ending=ending, fault=fault, **fields
    )


async def test_a_backend_that_dies_is_demoted_and_comes_back(serve, plan, start, fast, eventually):
    server = await serve("vllm", "tiny")
    with structlog.testing.capture_logs() as events:
        fleet = await start(plan(fast, gpu=server.url))
        await server.stop()
        await eventually(lambda: row(fleet).status is Status.UNHEALTHY)
        down = row(fleet)
        await server.start()
        await eventually(lambda: row(fleet).status is Status.HEALTHY)

    changes = [(e["old"], e["new"]) for e in events if e["event"] == "backend_status_changed"]
    assert changes == [("unknown", "healthy"), ("healthy", "unhealthy"), ("unhealthy", "healthy")]
    assert list(down.models) == ["tiny"]
    assert down.last_error.startswith("connection failed")
    assert row(fleet).last_error is None


async def test_a_probe_without_a_file_descriptor_proves_nothing_about_the_backend(
    serve, plan, start, fast, eventually, monkeypatch
):
    async def fail(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    server = await serve("vllm", "tiny")
    fleet = await start(plan(fast, gpu=server.url))

    monkeypatch.setattr(dial.aiohappyeyeballs, "start_connection", fail)
    await server.stop()
    await eventually(lambda: row(fleet).last_error)

    assert row(fleet).last_error == "connection failed: the proxy cannot open another connection"
    assert row(fleet).status is Status.HEALTHY


async def test_every_probe_updates_the_time_of_the_last_check(serve, plan, start, fast, eventually):
    server = await serve("vllm", "tiny")
    fleet = await start(plan(fast, gpu=server.url))
    first = row(fleet)

    await eventually(lambda: row(fleet).last_check_at > first.last_check_at)

    assert row(fleet).status_since == first.status_since


async def test_a_refused_request_demotes_at_once_and_hurries_the_probe(serve, plan, start, eventually):
    server = await serve("vllm", "tiny")
    fleet = await start(plan(gpu=server.url))
    asked = len(server.asked)

    fleet.report(row(fleet).id, outcome(row(fleet), UpstreamFault.REFUSED))
    demoted = row(fleet)
    await eventually(lambda: len(server.asked) > asked)

    assert (demoted.status, demoted.breaker) == (Status.UNHEALTHY, Breaker.CLOSED)
    assert demoted.last_error == "connection failed: refused to a request"


async def test_three_failures_open_the_breaker_in_what_everyone_sees(serve, plan, start):
    server = await serve("vllm", "tiny")
    fleet = await start(plan(gpu=server.url))

    for _ in range(3):
        fleet.report(row(fleet).id, outcome(row(fleet), UpstreamFault.FIRST_BYTE_TIMEOUT))

    assert row(fleet).breaker is Breaker.OPEN
    assert row(fleet).status is Status.HEALTHY


async def test_a_probe_on_demand_finds_new_models_and_all_requests_share_it(serve, plan, start):
    server, other = await serve("generic", "a"), await serve("generic", "b")
    fleet = await start(plan(gpu=server.url, other=other.url))
    server.answers["/v1/models"] = {"data": [{"id": "a"}, {"id": "new"}]}
    asked = len(server.asked)

    looked = await asyncio.gather(*(fleet.look(lambda: bool(fleet.snapshot.having("new"))) for _ in range(50)))
    at_once = await fleet.look(lambda: False)

    assert fleet.snapshot.having("new")
    assert all(looked)
    assert not at_once
    assert len(server.asked) == asked + 1


async def test_a_request_does_not_wait_for_a_backend_whose_last_probe_timed_out(serve, plan, start, eventually):
    async def hang(_):
        await asyncio.sleep(5)

    server = await serve(answers={"/v1/models": hang})
    config = HealthCheckConfig(interval_seconds=600, timeout_seconds=0.2)
    fleet = await start(plan(config, gpu={"url": server.url, "type": "generic"}))

    assert not await fleet.look(lambda: False)


async def test_a_request_waits_for_probes_for_at_most_a_second(serve, plan, start, monkeypatch):
    async def hang(_):
        await asyncio.sleep(5)

    monkeypatch.setattr("nexus.fleet.health.checker.MAX_LOOK_S", 0.1)
    server = await serve("generic", "a")
    fleet = await start(plan(gpu=server.url))
    server.answers["/v1/models"] = hang

    began = time.monotonic()
    await fleet.look(lambda: False)

    assert time.monotonic() - began < 0.5


async def test_a_fleet_without_health_checks_is_probed_on_demand(serve, plan, start):
    server = await serve("generic", "a")
    fleet = await start(plan(HealthCheckConfig(enabled=False), gpu=server.url))
    server.answers["/v1/models"] = {"data": [{"id": "new"}]}

    await fleet.look(lambda: bool(fleet.snapshot.having("new")))

    assert fleet.snapshot.having("new")


async def test_a_request_that_is_refused_confirms_what_a_probe_has_found(serve, plan, start, eventually):
    server = await serve("generic", "tiny")
    fleet = await start(plan(gpu=server.url))
    await server.stop()
    fleet._watch("gpu").probe_soon()
    await eventually(lambda: row(fleet).is_refusing)
    before = row(fleet).status

    fleet.report(row(fleet).id, outcome(row(fleet), UpstreamFault.REFUSED))

    assert (before, row(fleet).status) == (Status.HEALTHY, Status.UNHEALTHY)


async def test_a_denied_model_is_gone_until_the_next_probe(serve, plan, start, fast, eventually):
    server = await serve("ollama", "tiny:latest")
    fleet = await start(plan(fast, gpu=server.url))

    fleet.report_missing_model(row(fleet).id, "tiny")
    denied = fleet.snapshot.having("tiny")
    await eventually(lambda: fleet.snapshot.having("tiny"))

    assert denied == ()


async def test_what_a_server_does_not_support_is_forgotten_when_it_restarts(serve, plan, start, fast, eventually):
    server = await serve("generic", "tiny")
    fleet = await start(plan(fast, gpu=server.url))

    fleet.report_unsupported(row(fleet).id, "openai.chat", "tiny")
    asked = len(server.asked)
    await eventually(lambda: len(server.asked) > asked + 6)
    kept = row(fleet).unsupported
    await server.stop()
    await eventually(lambda: row(fleet).status is Status.UNHEALTHY)

    assert (kept, row(fleet).unsupported) == ({("openai.chat", "tiny")}, frozenset())


async def test_a_backend_drains_until_it_is_undrained(serve, plan, start, fast, eventually):
    server = await serve("vllm", "tiny")
    fleet = await start(plan(fast, gpu=server.url))

    await fleet.drain("gpu")
    asked = len(server.asked)
    await eventually(lambda: len(server.asked) > asked + 6)
    drained = row(fleet).status
    await fleet.undrain("gpu")
    await eventually(lambda: row(fleet).status is Status.HEALTHY)

    assert drained is Status.DRAINING
    with pytest.raises(BackendNotFound):
        await fleet.drain("nobody")


async def test_without_health_checks_a_backend_counts_as_healthy_and_lists_its_models_once(
    serve, plan, start, eventually
):
    server = await serve("vllm", "tiny", answers={"/health": 500})
    unwatched = HealthCheckConfig(enabled=False, interval_seconds=0.05, timeout_seconds=1)
    fleet = await start(plan(unwatched, gpu={"url": server.url, "type": "vllm"}))
    sick = row(fleet)
    server.answers["/health"] = b""
    await eventually(lambda: row(fleet).models)
    # Its load is read once after a probe, by a task of its own.
    await eventually(lambda: "GET /metrics" in server.asked)
    asked = len(server.asked)
    await asyncio.sleep(0.2)

    fleet.report(row(fleet).id, outcome(row(fleet), UpstreamFault.REFUSED))

    assert sick.status is Status.HEALTHY
    assert len(server.asked) == asked
    assert (row(fleet).status, row(fleet).breaker) == (Status.HEALTHY, Breaker.OPEN)


class TestReload:
    async def test_a_backend_that_stays_keeps_its_state(self, serve, plan, start):
        server, other = await serve("vllm", "tiny"), await serve("vllm", "big")
        fleet = await start(plan(gpu=server.url, old=other.url))
        before = row(fleet)
        before.load.acquire()
        before.load.acquire()
        fleet.report(before.id, outcome(before, status=200, first_byte_s=0.3))
        for _ in range(3):
            fleet.report(before.id, outcome(before, UpstreamFault.RESET))
        versions = []
        fleet.on_change(lambda snapshot: versions.append(len(snapshot.backends)))

        fleet.reconfigure(plan(gpu={"url": server.url, "priority": 1}, new=other.url))

        after = row(fleet)
        assert versions == [2]
        assert (after.id, after.load, after.status, after.breaker) == (
            before.id,
            before.load,
            Status.HEALTHY,
            Breaker.OPEN,
        )
        assert (after.load.in_flight, after.load.latency_ms) == (2, 300)
        assert (after.priority, list(after.models)) == (1, ["tiny"])
        assert [backend.name for backend in fleet.snapshot.backends] == ["gpu", "new"]

    async def test_a_backend_that_comes_back_has_the_slots_that_its_requests_still_hold(self, serve, plan, start):
        server, other = await serve("vllm", "tiny"), await serve("vllm", "tiny")
        fleet = await start(plan(gpu=server.url, other=other.url))
        before = row(fleet)
        before.load.acquire()
        before.load.acquire()
        before.load.observe_request(300)

        for members in ({}, {"third": other.url}, {"gpu": other.url}):
            fleet.reconfigure(plan(**members))

        after = row(fleet).load
        assert after is before.load
        assert (after.in_flight, after.latency_ms, after.is_latency_real) == (2, None, False)

    async def test_a_backend_that_left_without_requests_comes_back_as_new(self, serve, plan, start):
        server = await serve("vllm", "tiny")
        fleet = await start(plan(gpu=server.url))
        before = row(fleet).load
        before.acquire()

        fleet.reconfigure(plan())
        before.release()
        fleet.reconfigure(plan(gpu=server.url))

        assert row(fleet).load is not before

    async def test_what_the_old_server_refused_is_not_held_against_the_new_one(
        self, serve, plan, start, eventually, free_port
    ):
        server = await serve("generic", "tiny")
        fleet = await start(plan(gpu={"url": f"http://127.0.0.1:{free_port}", "type": "generic"}))
        await eventually(lambda: row(fleet).is_refusing)

        fleet.reconfigure(plan(gpu={"url": server.url, "type": "generic"}))

        assert (row(fleet).status, row(fleet).is_refusing) == (Status.UNKNOWN, False)

    async def test_another_url_is_another_server(self, serve, plan, start, eventually):
        server, other = await serve("vllm", "tiny"), await serve("ollama", "big")
        fleet = await start(plan(gpu=server.url))
        for _ in range(3):
            fleet.report(row(fleet).id, outcome(row(fleet), UpstreamFault.RESET))

        fleet.reconfigure(plan(gpu=other.url))
        changed = row(fleet)
        await eventually(lambda: row(fleet).status is Status.HEALTHY)

        assert (changed.status, changed.breaker, changed.url) == (Status.UNKNOWN, Breaker.CLOSED, other.url)
        assert (row(fleet).kind.name, list(row(fleet).models)) == ("ollama", ["big"])

    async def test_a_limit_that_is_no_longer_configured_is_that_of_the_kind_again(self, serve, plan, start, eventually):
        server = await serve("llamacpp", "tiny")
        fleet = await start(plan(gpu={"url": server.url, "max_in_flight": 1}))
        before = row(fleet).max_in_flight

        fleet.reconfigure(plan(gpu=server.url))

        assert (before, row(fleet).max_in_flight, row(fleet).slots) == (1, 1024, 3)

    async def test_where_a_model_runs_holds_before_the_next_probe(self, serve, plan, start):
        server = await serve("vllm", "tiny")
        fleet = await start(plan(gpu=server.url))

        fleet.reconfigure(plan(gpu={"url": server.url, "models": {"tiny": ModelConfig(zone="open", tier=4)}}))

        assert (row(fleet).zone_of("tiny"), row(fleet).tier_of("tiny")) == ("open", 4)

    async def test_another_server_does_not_inherit_the_facts_of_the_old_one(self, serve, plan, start, eventually):
        server, other = await serve("vllm", "tiny"), await serve("vllm", "tiny")
        fleet = await start(plan(gpu={"url": server.url, "type": "vllm"}))

        fleet.reconfigure(plan(gpu={"url": other.url, "type": "vllm"}))
        changed = row(fleet)
        await eventually(lambda: row(fleet).status is Status.HEALTHY)

        assert (list(changed.models), changed.zone_of("tiny")) == (["tiny"], "open")
        assert row(fleet).zone_of("tiny") == "restricted"

    async def test_a_drain_survives_a_change_of_the_server(self, serve, plan, start):
        server, other = await serve("vllm", "tiny"), await serve("vllm", "tiny")
        fleet = await start(plan(gpu=server.url))
        await fleet.drain("gpu")

        fleet.reconfigure(plan(gpu=other.url))

        assert row(fleet).status is Status.DRAINING

    async def test_a_backend_that_is_no_longer_watched_is_not_stuck(self, serve, plan, start, free_port):
        fleet = await start(plan(gpu=f"http://127.0.0.1:{free_port}"))
        before = row(fleet).status

        fleet.reconfigure(plan(HealthCheckConfig(enabled=False), gpu=f"http://127.0.0.1:{free_port}"))

        assert (before, row(fleet).status) == (Status.UNHEALTHY, Status.HEALTHY)


class Announcer(Discoverer):
    """A discoverer that sees what the test says."""

    name = "announcer"

    def __init__(self):
        self.looks = asyncio.Queue(10)
        self.is_closed = False

    async def watch(self):
        try:
            while True:
                yield await self.looks.get()
        finally:
            self.is_closed = True


async def test_a_discoverer_adds_and_removes_backends(serve, plan, start, eventually):
    server = await serve("vllm", "tiny")
    announcer = Announcer()
    fleet = await start(plan(discovery=DiscoveryConfig(enabled=False, grace_period_seconds=0)), discoverers=[announcer])

    announcer.looks.put_nowait((Discovered("found", server.url),))
    await eventually(lambda: fleet.snapshot.having("tiny"))
    found = row(fleet, "found")
    announcer.looks.put_nowait(())
    announcer.looks.put_nowait(())
    await eventually(lambda: not fleet.snapshot.backends)
    await fleet.stop()

    assert (found.status, found.discovery_source, found.kind.name) == (Status.HEALTHY, "announcer", "vllm")
    assert announcer.is_closed


async def test_a_reload_does_not_disturb_a_discoverer(serve, plan, start, eventually):
    server, configured = await serve("vllm", "tiny"), await serve("vllm", "big")
    announcer = Announcer()
    fleet = await start(plan(), discoverers=[announcer])
    announcer.looks.put_nowait((Discovered("found", server.url),))
    await eventually(lambda: fleet.snapshot.having("tiny"))
    found = row(fleet, "found")

    fleet.reconfigure(plan(gpu=configured.url))

    assert row(fleet, "found").load is found.load
    assert not announcer.is_closed


async def test_nothing_runs_after_the_fleet_has_stopped(serve, plan, start, fast):
    server = await serve("vllm", "tiny")
    fleet = await start(plan(fast, gpu=server.url))

    await fleet.stop()

    asked = len(server.asked)
    await asyncio.sleep(0.15)
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert len(server.asked) == asked
    assert not [name for name in names if name.startswith(("watch-", "discover-"))]
    assert fleet.snapshot.having("tiny")
