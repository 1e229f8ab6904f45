"""A fleet knows what its engines report, and notices when they restart."""

import asyncio

import pytest

from nexus.config.schema import HealthCheckConfig
from nexus.domain.backend import Status
from nexus.fleet.probing import probe

QUICK = HealthCheckConfig(interval_seconds=0.05, timeout_seconds=1.0, load_interval_seconds=0.05)
SLOTS = [{"id": n, "is_processing": n == 0} for n in range(3)]


def vllm(running, waiting=0, **more):
    figures = {"vllm:num_requests_running": running, "vllm:num_requests_waiting": waiting, **more}
    return "".join(f"{name} {value}\n" for name, value in figures.items()).encode()


def row(fleet):
    (backend,) = fleet.snapshot.backends
    return backend


async def test_a_report_is_in_the_snapshot_that_routing_reads(serve, plan, start, eventually):
    server = await serve("vllm", "tiny", answers={"/metrics": vllm(3, 2)})

    fleet = await start(plan(QUICK, gpu=server.url))
    await eventually(lambda: row(fleet).load.told)

    assert (row(fleet).load.told.running, row(fleet).load.told.waiting) == (3, 2)
    assert fleet.read_counts.results["gpu"]["success"] >= 1


async def test_a_server_without_pages_is_as_healthy_as_any(serve, plan, start, eventually):
    server = await serve("vllm", "tiny", answers={"/metrics": 404})

    fleet = await start(plan(QUICK, gpu=server.url))
    await eventually(lambda: row(fleet).load.no_report)

    assert row(fleet).status is Status.HEALTHY
    assert server.asked.count("GET /metrics") == 1


async def test_the_number_of_slots_may_come_from_the_report(serve, plan, start, eventually):
    loads = {"loads": [{"num_running_reqs": 1, "num_waiting_reqs": 0, "max_running_requests": 48}]}
    server = await serve("sglang", "tiny", answers={"/v1/loads": loads})

    fleet = await start(plan(QUICK, gpu={"url": server.url, "type": "sglang"}))

    await eventually(lambda: row(fleet).slots == 48)


async def test_lmstudio_shows_its_slots_as_it_loads_models(serve, plan, start, eventually):
    models = [{"key": "tiny", "loaded_instances": [{"id": "tiny", "config": {"parallel": 6}}]}]
    server = await serve("lmstudio", "tiny", answers={"/api/v1/models": {"models": models}})

    fleet = await start(plan(QUICK, gpu=server.url))
    await eventually(lambda: row(fleet).load.told)

    assert (row(fleet).slots, row(fleet).load.told.loaded) == (6, {"tiny"})


async def test_vllm_is_asked_only_once_how_it_was_started(serve, plan, start, eventually):
    config = {"vllm_config": {"scheduler_config": {"max_num_seqs": 12}, "parallel_config": {"data_parallel_size": 2}}}
    server = await serve("vllm", "tiny", answers={"/server_info": config})

    fleet = await start(plan(QUICK, gpu=server.url))
    await eventually(lambda: server.asked.count("GET /version") > 5)

    assert row(fleet).slots == 24
    assert sum("server_info" in asked for asked in server.asked) == 1


async def test_a_server_that_did_not_say_how_it_was_started_is_asked_again_after_an_hour(
    serve, plan, start, eventually, monkeypatch
):
    server = await serve("sglang", "tiny", answers={"/server_info": 503})
    fleet = await start(plan(QUICK, gpu={"url": server.url, "type": "sglang"}))
    await eventually(lambda: server.asked.count("GET /model_info") > 3)
    asked = server.asked.count("GET /server_info")

    monkeypatch.setattr(probe, "ASK_AGAIN_S", 0.0)
    server.answers["/server_info"] = {"version": "0.5.23", "max_running_requests": 64}
    await eventually(lambda: row(fleet).slots == 64)

    assert asked == 1
    assert row(fleet).version == "0.5.23"


async def test_a_server_that_was_away_has_restarted(serve, plan, start, eventually):
    server = await serve("vllm", "tiny", answers={"/metrics": vllm(3)})
    fleet = await start(plan(QUICK, gpu=server.url))
    await eventually(lambda: row(fleet).load.told)

    await server.stop()
    await eventually(lambda: row(fleet).is_refusing)
    await server.start()

    await eventually(lambda: row(fleet).load.restarts == 1)
    await eventually(lambda: row(fleet).load.told)


@pytest.mark.parametrize(
    "answers", [{"/version": {"version": "0.33.0"}}, {"/metrics": vllm(3, process_start_time_seconds=2)}]
)
async def test_a_server_that_is_another_process_has_restarted(serve, plan, start, eventually, answers):
    first = vllm(3, process_start_time_seconds=1)
    server = await serve("vllm", "tiny", answers={"/metrics": first})
    fleet = await start(plan(QUICK, gpu=server.url))
    await eventually(lambda: row(fleet).load.told)

    server.answers.update(answers)

    await eventually(lambda: row(fleet).load.restarts == 1)


async def test_another_server_inherits_no_report(serve, plan, start, eventually):
    old = await serve("vllm", "tiny", answers={"/metrics": vllm(3)})
    new = await serve("vllm", "tiny")
    fleet = await start(plan(QUICK, gpu=old.url))
    await eventually(lambda: row(fleet).load.told)

    fleet.reconfigure(plan(QUICK, gpu=new.url))

    assert (row(fleet).load.told, row(fleet).load.restarts) == (None, 1)


async def test_nothing_is_read_after_the_fleet_has_stopped(serve, plan, start, eventually):
    server = await serve("vllm", "tiny", answers={"/metrics": vllm(1)})
    fleet = await start(plan(QUICK, gpu=server.url))
    await eventually(lambda: row(fleet).load.told)

    await fleet.stop()
    asked = len(server.asked)
    await asyncio.sleep(0.3)

    assert len(server.asked) == asked


async def test_llamacpp_without_metrics_reports_its_busy_slots(serve, plan, start, eventually):
    server = await serve("llamacpp", "tiny", answers={"/metrics": 501, "/slots": SLOTS})

    fleet = await start(plan(QUICK, gpu=server.url))
    row(fleet).load.acquire()
    await eventually(lambda: row(fleet).load.told)

    assert (row(fleet).load.told.running, row(fleet).load.told.waiting) == (1, None)
