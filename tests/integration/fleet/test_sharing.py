"""A fleet that two other processes follow, over real channels."""

import time

import pytest

from nexus.config.faults import Fault
from nexus.config.schema import ModelConfig
from nexus.domain.backend import Breaker, Status
from nexus.domain.capacity import held_from_reported
from nexus.domain.engine_report import EngineReport
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.shared_load import HELD
from nexus.error_codes import UpstreamFault
from nexus.fleet.added import BackendRefused
from nexus.fleet.membership.registry import BackendNotFound


def outcome(row, fault=None, **fields):
    ending = Ending.FINISHED if fault is None else Ending.BACKEND_FAILED
    fields = {"status": 200 if fault is None else None, **fields}
    return AttemptOutcome(backend=row.name, backend_id=row.id, model="tiny", ending=ending, fault=fault, **fields)


@pytest.fixture
async def fleet_of_one(serve, plan, start):
    """A fleet of one server with four slots."""
    server = await serve("vllm", "tiny")
    planned = plan(gpu={"url": server.url, "max_in_flight": 4, "api_key": "env:KEY"})
    return await start(planned), planned


async def test_a_follower_has_the_rows_and_secrets_of_the_fleet(fleet_of_one, share):
    fleet, planned = fleet_of_one
    _, (one, two) = await share(fleet, planned)

    (row,) = fleet.snapshot.backends
    for follower in (one, two):
        assert follower.row().models == row.models
        assert (follower.row().status, follower.row().max_in_flight) == (Status.HEALTHY, 4)
        assert follower.fleet.snapshot.models == ("tiny",)
        assert follower.row().load is not row.load


async def test_failures_of_one_follower_open_the_breaker_for_the_other(fleet_of_one, share, eventually):
    fleet, planned = fleet_of_one
    _, (one, two) = await share(fleet, planned)

    for _ in range(5):
        one.fleet.report(one.row().id, outcome(one.row(), UpstreamFault.RESET, is_sent=True))

    await eventually(lambda: two.row().breaker_of("tiny") is Breaker.OPEN)


async def test_good_answers_are_reported_once_a_failure_counts(fleet_of_one, share, eventually):
    fleet, planned = fleet_of_one
    _, (one, two) = await share(fleet, planned)
    one.fleet.report(one.row().id, outcome(one.row(), UpstreamFault.RESET, is_sent=True))
    await eventually(lambda: two.fleet.counts_successes(two.row().id))
    seen = []
    fleet.report, report = lambda *args, **kwargs: (seen.append(args), report(*args, **kwargs)), fleet.report

    for _ in range(3):
        two.fleet.report(two.row().id, outcome(two.row()))

    await eventually(lambda: len(seen) == 3)


async def test_no_more_requests_run_than_the_limit_allows(fleet_of_one, share, eventually):
    fleet, planned = fleet_of_one
    publisher, followers = await share(fleet, planned)
    await eventually(lambda: sum(publisher.broker.held(("gpu", "")).values()) == 4)

    for _ in range(6):
        for follower in followers:
            follower.take()
    for left in range(12, 0, -1):
        await eventually(lambda left=left: sum(len(each.held) for each in followers) >= min(4, left))
        assert sum(len(each.held) for each in followers) <= 4
        next(each for each in followers if each.held).release()

    assert [each.waiting for each in followers] == [0, 0]


async def test_each_process_knows_the_requests_of_the_others(fleet_of_one, share, eventually):
    fleet, planned = fleet_of_one
    _, (one, two) = await share(fleet, planned)

    one.take()

    await eventually(lambda: two.row().load.elsewhere.models == {"tiny": 1})
    await eventually(lambda: fleet.snapshot.backends[0].load.everywhere == 1)
    assert one.row().load.elsewhere.in_flight == 0
    one.release()
    await eventually(lambda: two.row().load.everywhere == 0)


async def test_a_follower_that_ends_gives_back_all_it_had(fleet_of_one, share, eventually):
    fleet, planned = fleet_of_one
    _, (one, two) = await share(fleet, planned)
    for _ in range(3):
        one.take()
    await eventually(lambda: len(one.held) == 3)

    one.channel.close()
    for _ in range(4):
        two.take()

    await eventually(lambda: len(two.held) == 4)
    assert fleet.snapshot.backends[0].load.everywhere in (0, 4)


async def test_the_slots_that_a_silent_follower_does_not_use_go_to_the_others(fleet_of_one, share, eventually):
    fleet, planned = fleet_of_one
    publisher, (one, two) = await share(fleet, planned)
    one.take()
    await eventually(lambda: fleet.snapshot.backends[0].load.everywhere == 1)

    publisher.set_aside("worker 0")
    for _ in range(4):
        two.take()

    await eventually(lambda: len(two.held) == 3)
    assert (len(one.held), two.waiting) == (1, 1)
    publisher.bring_back("worker 0")
    one.release()
    await eventually(lambda: len(two.held) == 4)


async def test_only_one_process_tries_a_half_open_breaker(fleet_of_one, share, eventually):
    fleet, planned = fleet_of_one
    _, (one, two) = await share(fleet, planned)
    fleet.registry.update(fleet.snapshot.backends[0].id, breaker=Breaker.HALF_OPEN, server_breaker=Breaker.HALF_OPEN)
    await eventually(lambda: two.row().breaker is Breaker.HALF_OPEN)

    one.row().load.begin_probing()

    await eventually(lambda: two.row().load.elsewhere.probing == {""})
    one.row().load.end_probing()
    await eventually(lambda: two.row().load.elsewhere.probing == frozenset())


async def test_what_a_follower_asks_is_done_for_all(fleet_of_one, share, serve, eventually, tmp_path):
    fleet, planned = fleet_of_one
    other = await serve("vllm", "small")
    key = tmp_path / "key"
    key.write_text("k")
    _, (one, two) = await share(fleet, planned)

    await one.fleet.drain("gpu")
    member = await one.fleet.added.add({"name": "new", "url": other.url, "api_key": f"file:{key}"}, persist=False)

    assert (one.row().status, member.config.name) == (Status.DRAINING, "new")
    assert "new" in one.fleet.added
    await eventually(lambda: two.has("new") and two.row("new").status is Status.HEALTHY)
    assert two.fleet.upstream_settings["new"].key == "k"
    await two.fleet.added.remove("new")
    assert not two.has("new")


async def test_a_refusal_arrives_as_what_it_was(fleet_of_one, share):
    fleet, planned = fleet_of_one
    _, (one, _) = await share(fleet, planned)

    with pytest.raises(BackendNotFound, match="missing"):
        await one.fleet.undrain("missing")
    with pytest.raises(Fault) as wrong:
        await one.fleet.added.add({"name": "new", "url": "http://10.0.0.1", "type": "nothing"}, persist=False)
    with pytest.raises(BackendRefused) as refused:
        await one.fleet.added.add({"name": "gpu", "url": "http://10.0.0.1"}, persist=False)
    assert wrong.value.path == ("type",)
    assert refused.value.key


async def test_a_look_finds_a_model_that_is_new(serve, plan, start, share):
    server = await serve("vllm", "tiny")
    planned = plan(gpu=server.url)
    fleet = await start(planned)
    _, (one, _) = await share(fleet, planned)

    assert await one.fleet.look(lambda: True)
    assert not one.fleet.snapshot.having("large")


async def test_limits_of_models_are_divided_too(serve, plan, start, share, eventually):
    server = await serve("vllm", "tiny")
    planned = plan(gpu={"url": server.url, "models": {"tiny": ModelConfig(max_in_flight=1)}})
    fleet = await start(planned)
    _, (one, two) = await share(fleet, planned)

    one.take()
    two.take()
    await eventually(lambda: len(one.held) + len(two.held) == 1)
    next(each for each in (one, two) if each.held).release()

    await eventually(lambda: (len(one.held) + len(two.held), one.waiting + two.waiting) == (1, 0))


async def test_reports_of_the_engine_reach_followers(fleet_of_one, share, eventually):
    fleet, planned = fleet_of_one
    _, (one, _) = await share(fleet, planned)
    load = fleet.snapshot.backends[0].load
    report = EngineReport(at=time.monotonic(), due_at=time.monotonic() + 60, running=3, loaded=frozenset({"tiny"}))
    load.tell(report)

    await eventually(lambda: one.row().load.told == report)


async def test_slots_that_a_server_reports_are_divided_too(serve, plan, start, share, eventually):
    server = await serve("llamacpp", "tiny")
    planned = plan(gpu=server.url)
    fleet = await start(planned)
    _, followers = await share(fleet, planned)
    held_from = held_from_reported(fleet.snapshot.backends[0])

    parts = [each.row().load.allotments[HELD + "tiny"] for each in followers]

    await eventually(lambda: sum(part.size for part in parts) == held_from == 5)
