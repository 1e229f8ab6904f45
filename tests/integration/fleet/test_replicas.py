"""Replicas that share the limits of a backend by a store, each with its own fleet and two workers."""

import pytest

from nexus.domain.backend import Status
from nexus.fleet.sharing import replicas as sharing
from nexus.fleet.sharing.lone_process import LoneProcess
from nexus.fleet.sharing.slot_keeper import Waiting
from nexus.store.watched import WatchedStore
from nexus.testing.shared_store import SharedMemory


@pytest.fixture
def shared():
    return SharedMemory()


@pytest.fixture
def replicas(serve, plan, start, share, shared):
    """Return a function that starts so many replicas in front of one server with that limit."""

    async def replicas(count, limit):
        server = await serve("vllm", "tiny")
        planned = plan(gpu={"url": server.url, "max_in_flight": limit})
        return [await share(await start(planned), planned, 2, WatchedStore(shared.store())) for _ in range(count)]

    return replicas


@pytest.fixture
def no_grace(monkeypatch):
    monkeypatch.setattr(sharing, "GRACE_S", 0.0)


def running(replica):
    return sum(len(each.held) for each in replica[1])


async def test_replicas_never_use_more_than_the_limit_together(replicas, eventually):
    all_of_them = await replicas(3, limit=4)
    followers = [each for replica in all_of_them for each in replica[1]]

    for each in followers:
        for _ in range(3):
            each.take()
    for left in range(18, 0, -1):
        await eventually(lambda left=left: sum(map(running, all_of_them)) >= min(4, left))
        assert sum(map(running, all_of_them)) <= 4
        next(each for each in followers if each.held).release()

    assert sum(each.waiting for each in followers) == 0


async def test_one_slot_travels_between_replicas(replicas, eventually):
    one, two = await replicas(2, limit=1)
    one[1][0].take()
    await eventually(lambda: running(one) == 1)
    two[1][0].take()
    await eventually(lambda: one[0].broker.held(("gpu", ""))[""] == 0)

    one[1][0].release()

    await eventually(lambda: running(two) == 1)
    assert running(one) == 0


async def test_a_replica_sees_the_requests_of_the_others(replicas, eventually):
    one, two = await replicas(2, limit=4)
    one[1][0].take()
    await eventually(lambda: running(one) == 1)

    two[1][1].take()
    await eventually(lambda: running(two) == 1)

    for publisher in (one[0], two[0], one[0]):
        await eventually(lambda publisher=publisher: publisher.broker.keys)
        await publisher.replicas.renew()
    await eventually(lambda: one[1][1].row().load.everywhere == 2)
    await eventually(lambda: two[1][0].row().load.everywhere == 2)


async def test_slots_of_a_replica_that_was_killed_return_when_its_claims_expire(replicas, shared, eventually):
    one, two = await replicas(2, limit=2)
    for _ in range(2):
        one[1][0].take()
    await eventually(lambda: running(one) == 2)
    await one[0].replicas.renew()
    two[1][0].take()
    await eventually(lambda: two[0].broker.unmet(("gpu", "")) == 1)

    shared.lapse(one[0].replicas.id)

    await eventually(lambda: running(two) == 1)


async def test_without_the_store_each_replica_uses_its_part(replicas, shared, eventually, no_grace):
    one, _ = await replicas(2, limit=4)
    await one[0].replicas.renew()
    shared.failure = "the server is down"

    await one[0].replicas.renew()
    await eventually(lambda: sum(each.row().load.allotments[""].size for each in one[1]) == 2)
    for each in one[1]:
        for _ in range(4):
            each.take()

    await eventually(lambda: running(one) == 2)
    assert "the server is down" in one[0].replicas.failure


async def test_without_the_store_a_replica_without_slots_waits_for_no_lease(replicas, shared, eventually, no_grace):
    one, two = await replicas(2, limit=4)
    for _ in range(6):
        one[1][0].take()
    await eventually(lambda: running(one) == 4)
    shared.failure = "the server hangs"

    for _ in range(3):
        two[1][0].take()
    await two[0].replicas.renew()
    await one[0].replicas.renew()

    # What was sent before is finished, and not replaced beyond the part.
    await eventually(lambda: running(two) == 2)
    assert running(one) == 4
    for _ in range(3):
        next(each for each in one[1] if each.held).release()
    await eventually(lambda: running(one) == 2)
    assert (running(two), one[1][0].waiting, two[1][0].waiting) == (2, 1, 1)


async def test_a_short_failure_of_the_store_changes_no_part(replicas, shared, eventually):
    one, two = await replicas(2, limit=4)
    for _ in range(4):
        one[1][0].take()
    await eventually(lambda: running(one) == 4)
    two[1][0].take()
    shared.failure = "the server is replaced"

    await two[0].replicas.renew()
    await one[0].replicas.renew()

    assert two[0].broker.own_slots(("gpu", "")) == 0
    assert one[0].broker.own_slots(("gpu", "")) == 4


async def test_a_replica_that_stops_gives_its_slots_back(replicas, eventually):
    one, two = await replicas(2, limit=3)

    await one[0].stop()
    for _ in range(3):
        two[1][0].take()

    await eventually(lambda: running(two) == 3)


async def test_a_drain_at_one_replica_holds_at_all_until_it_is_undone(replicas, shared, eventually):
    one, two = await replicas(2, limit=4)

    await one[1][0].fleet.drain("gpu")
    await eventually(lambda: two[1][0].row().status is Status.DRAINING)
    (late,) = await replicas(1, limit=4)
    await eventually(lambda: late[1][0].row().status is Status.DRAINING)
    await two[1][1].fleet.undrain("gpu")

    await eventually(lambda: one[1][0].row().status is not Status.DRAINING)
    assert "core/drained/gpu" not in shared.entries


async def test_a_backend_added_at_one_replica_is_added_changed_and_removed_at_all(
    serve, plan, start, share, shared, eventually
):
    server, planned = await serve("vllm", "tiny"), plan()
    fleets = []
    for _ in range(2):
        store = WatchedStore(shared.store())
        await store.open()
        fleets.append(await start(planned, store=store))
        await share(fleets[-1], planned, 0, store)
    one, two = fleets

    await one.added.add({"name": "new", "url": server.url}, persist=True)
    await eventually(lambda: two.snapshot.having("tiny"))
    await one.added.change("new", {"priority": 7}, persist=None)
    await eventually(lambda: [row.priority for row in two.snapshot.backends] == [7])
    await two.added.remove("new")

    await eventually(lambda: one.snapshot.backends == ())


async def test_trouble_at_one_replica_makes_the_others_probe(serve, plan, start, share, shared, eventually):
    server = await serve("vllm", "tiny")
    planned = plan(gpu=server.url)
    fleets = [await start(planned) for _ in range(2)]
    for fleet in fleets:
        await share(fleet, planned, 0, WatchedStore(shared.store()))
    before = len(server.asked)

    fleets[0].registry.update(fleets[0].snapshot.backends[0].id, status=Status.UNHEALTHY)

    await eventually(lambda: len(server.asked) > before)
    assert fleets[1].snapshot.backends[0].status is Status.HEALTHY


async def test_a_proxy_of_one_process_shares_limits_too(serve, plan, start, shared, eventually):
    server = await serve("vllm", "tiny")
    planned = plan(gpu={"url": server.url, "max_in_flight": 3})
    processes, allotments = [], []
    for _ in range(2):
        fleet, store = await start(planned), WatchedStore(shared.store())
        await store.open()
        process = LoneProcess(fleet, store)
        process.keeper.serve_queue(lambda _: Waiting(1, (0, 1, 0)), lambda _: None)
        await process.start()
        processes.append(process)
        allotments.append(fleet.snapshot.backends[0].load.allotments[""])
    first, second = allotments

    await eventually(lambda: first.size == 3)
    first.take()
    second.on_short(second)
    await eventually(lambda: second.size >= 1)

    assert first.size + second.size <= 3
    for process in processes:
        await process.stop()
    assert shared.claims == {}
