"""Requests beyond what backends take at once wait in turn, for a while, and in bounded number."""

import asyncio

import pytest

from nexus.testing.waiting import eventually
from tests.support.bookkeeping import what_is_held
from tests.support.dialects import CHAT
from tests.support.scripted import Close, ReadRequest, Send, Stall, Wait

ONE_AT_ONCE = {"gpu": {"max_in_flight": 1}}


def body(number):
    return CHAT.body(stream=False, user=f"user-{number}")


def order(simulator):
    return [record.body.rpartition(b'"user-')[2].rstrip(b'"}').decode() for record in simulator.received(CHAT.path)]


async def waiting(scene, count):
    await eventually(lambda: what_is_held(scene.nexus)["waiting"] == count)


async def line_up(scene, numbers, headers=""):
    """Send one request after the other, each when the one before it waits."""
    clients = []
    already = what_is_held(scene.nexus)["waiting"]
    for place, number in enumerate(numbers, start=1):
        client = await scene.connect()
        client.send(CHAT, body=body(number), headers=headers)
        clients.append(client)
        await waiting(scene, already + place)
    return clients


async def occupy(scene, dialect=CHAT):
    """Take the one slot."""
    client = await scene.connect()
    client.send(dialect, body=body("first"))
    await eventually(lambda: what_is_held(scene.nexus)["slots"] == 1)
    return client


async def test_who_waits_is_served_in_turn(start, simulate):
    gpu = await simulate("gpu", ttft_s=0.05)
    scene = await start(gpu=gpu, options=ONE_AT_ONCE)
    first = await occupy(scene)
    clients = await line_up(scene, range(6))

    replies = [await client.reply() for client in (first, *clients)]

    assert [reply.status for reply in replies] == [200] * 7
    assert order(gpu) == ["first", *map(str, range(6))]
    assert all(outcome.queued_s > 0 for outcome in scene.outcomes[1:])


async def test_never_more_than_its_limit_are_given_to_a_backend(start, simulate):
    gpu = await simulate("gpu", ttft_s=0.005, tokens_per_s=2000, concurrency=64)
    scene = await start(gpu=gpu, options={"gpu": {"max_in_flight": 3}})
    most = 0

    async def watch():
        nonlocal most
        while True:
            most = max(most, gpu.active, scene.backend("gpu").load.in_flight)
            await asyncio.sleep(0)

    async def ask(number):
        return (await scene.ask(CHAT, stream=bool(number % 2))).status

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        statuses = await asyncio.gather(*(ask(number) for number in range(60)))
        watching.cancel()

    assert set(statuses) == {200}
    assert most == 3


async def test_urgent_requests_go_first(start, simulate):
    gpu = await simulate("gpu", ttft_s=0.05)
    scene = await start(gpu=gpu, options=ONE_AT_ONCE)
    first = await occupy(scene)
    clients = await line_up(scene, ["slow-1", "slow-2"])
    clients += await line_up(scene, ["urgent-1", "urgent-2"], headers="X-Nexus-Priority: high\r\n")

    for client in (first, *clients):
        assert (await client.reply()).status == 200

    assert order(gpu) == ["first", "urgent-1", "urgent-2", "slow-1", "slow-2"]


async def test_a_full_queue_refuses_at_once(start, script, dialect):
    gpu = await script()
    scene = await start(gpu=gpu, options=ONE_AT_ONCE, settings={"queue_size": 1})
    gpu.play([ReadRequest(), Stall()])
    await occupy(scene)
    await line_up(scene, ["waits"])

    reply = await scene.ask(dialect)

    assert (reply.status, reply.code) == (503, "queue_full")
    assert 1 <= int(reply.headers["retry-after"]) <= 30
    assert scene.outcomes[-1].ending == "rejected"


async def test_who_has_waited_too_long_is_refused(start, script, dialect):
    gpu = await script()
    scene = await start(gpu=gpu, options=ONE_AT_ONCE, settings={"queue_s": 0.1})
    gpu.play([ReadRequest(), Stall()])
    await occupy(scene)

    reply = await scene.ask(dialect)

    assert (reply.status, reply.code) == (503, "queue_timeout")
    assert "retry-after" in reply.headers
    assert (scene.outcomes[-1].ending, scene.outcomes[-1].termination) == ("timed_out", "sQ")
    assert len(gpu.attempts) == 1


async def test_waiting_counts_towards_the_deadline(start, script, dialect):
    gpu = await script()
    scene = await start(gpu=gpu, options=ONE_AT_ONCE, settings={"request_s": 0.15})
    gpu.play([ReadRequest(), Stall()])
    client = await occupy(scene)

    reply = await scene.ask(dialect)

    assert (reply.status, reply.code) == (504, "deadline_exceeded")
    assert (await client.reply()).status == 504


async def test_who_leaves_the_queue_makes_room(start, simulate):
    gpu = await simulate("gpu", ttft_s=0.1)
    scene = await start(gpu=gpu, options=ONE_AT_ONCE, settings={"queue_size": 2})
    first = await occupy(scene)
    leaving, staying = await line_up(scene, ["leaves", "stays"])

    leaving.leave()
    await waiting(scene, 1)
    (late,) = await line_up(scene, ["late"])

    assert [(await client.reply()).status for client in (first, staying, late)] == [200, 200, 200]
    assert order(gpu) == ["first", "stays", "late"]


async def test_a_backend_that_fails_hands_its_slot_on(start, script):
    gpu = await script()
    scene = await start(gpu=gpu, options={"gpu": {"max_in_flight": 1, "retry_unsafe": False}})
    gpu.play([ReadRequest(), Wait(0.05), Close()], [ReadRequest(), Send(CHAT.good_answer)])
    first = await occupy(scene)
    (second,) = await line_up(scene, ["second"])

    assert [(await first.reply()).status, (await second.reply()).status] == [502, 200]


async def test_a_backend_that_comes_back_takes_who_waits(start, script, simulate):
    busy, idle = await script(), await simulate("idle")
    scene = await start(busy=busy, idle=idle, options={"busy": {"max_in_flight": 1}})
    await scene.nexus.fleet.drain("idle")
    busy.play([ReadRequest(), Stall()])
    await occupy(scene)
    (waiter,) = await line_up(scene, ["waits"])

    await scene.nexus.fleet.undrain("idle")

    assert (await waiter.reply()).headers["x-nexus-backend"] == "idle"


async def test_without_a_queue_a_busy_fleet_refuses(start, script, dialect):
    gpu = await script()
    scene = await start(gpu=gpu, options=ONE_AT_ONCE, settings={"queue_size": 0})
    gpu.play([ReadRequest(), Stall()])
    await occupy(scene)

    assert (await scene.ask(dialect)).code == "queue_full"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_attempt_waits_for_another_busy_backend(start, script, stream):
    broken, busy = await script(), await script()
    scene = await start(broken=broken, busy=busy, options={"busy": {"max_in_flight": 1}})
    answer = Send(CHAT.good_stream if stream else CHAT.good_answer)
    broken.play([ReadRequest(), Close()])
    busy.play([ReadRequest(), Wait(0.1), Send(CHAT.good_answer), ReadRequest(), answer])
    await scene.nexus.fleet.drain("broken")
    first = await occupy(scene)
    await scene.nexus.fleet.undrain("broken")

    reply = await scene.ask(CHAT, stream=stream)

    assert (reply.status, reply.headers["x-nexus-backend"], reply.headers["x-nexus-attempts"]) == (200, "busy", "2")
    assert (await first.reply()).status == 200
