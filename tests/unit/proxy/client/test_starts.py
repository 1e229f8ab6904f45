"""Few requests start in one turn of the event loop while clients are sent streams, and all in their order."""

import asyncio

import pytest

from nexus.proxy.client.starts import MAX_STARTED, Starts
from nexus.proxy.write_batch import WriteBatch


class StillLoop:
    """An event loop whose clock stands still, as uvloop's does during a turn."""

    def __init__(self):
        self.now = 10.0
        self.ready = []

    def time(self):
        return self.now

    def call_soon(self, callback):
        self.ready.append(callback)

    def create_future(self):
        return asyncio.get_running_loop().create_future()

    def turn(self):
        """Run what is ready, and not what becomes ready meanwhile."""
        ready, self.ready = self.ready, []
        for callback in ready:
            callback()


@pytest.fixture
def loop():
    return StillLoop()


@pytest.fixture
def starts(loop):
    starts = Starts(loop, None)
    starts.streams = 1
    return starts


@pytest.fixture
async def waiters():
    return [asyncio.get_running_loop().create_future() for _ in range(3 * MAX_STARTED - 1)]


def started(waiters):
    return [waiter.done() for waiter in waiters]


def wake_all(starts, waiters):
    for waiter in waiters:
        starts.wake(waiter)


async def test_beside_streams_few_start_in_each_turn_in_their_order(starts, waiters, loop):
    wake_all(starts, waiters)
    first = sum(started(waiters))
    loop.turn()
    second = sum(started(waiters))
    loop.turn()

    assert (first, second) == (MAX_STARTED, 2 * MAX_STARTED)
    assert all(started(waiters))
    assert not loop.ready


async def test_many_streams_that_end_at_once_are_settled_a_few_in_each_turn(starts, waiters, loop):
    first = [starts.turn_to_settle() for _ in range(MAX_STARTED)]
    others = [starts.turn_to_settle() for _ in range(MAX_STARTED)]
    starts.wake(waiters[0])

    assert first == [None] * MAX_STARTED
    assert not any(started(others))
    loop.turn()
    assert all(started(others))
    assert not waiters[0].done()
    loop.turn()
    assert waiters[0].done()


async def test_a_stream_that_is_settled_announces_no_write(loop):
    announced = []
    starts = Starts(loop, None)
    starts.announce = lambda: announced.append(1)

    turns = [starts.turn_to_settle() for _ in range(MAX_STARTED + 1)]
    loop.turn()

    assert turns[-1].done()
    assert not announced


async def test_a_request_does_not_overtake_those_that_wait(starts, waiters, loop):
    *early, late = waiters[: MAX_STARTED + 2]
    wake_all(starts, early)
    loop.now += 1

    starts.wake(late)

    assert not late.done()
    loop.turn()
    assert late.done()


async def test_requests_that_come_one_by_one_do_not_wait(starts, waiters, loop):
    for waiter in waiters:
        starts.wake(waiter)
        loop.now += 0.001

    assert all(started(waiters))


async def test_a_connection_that_is_lost_while_it_waits_is_passed_over(starts, waiters, loop):
    wake_all(starts, waiters)
    waiters[MAX_STARTED].cancel()

    loop.turn()

    assert sum(started(waiters)) == 2 * MAX_STARTED + 1


async def test_each_start_announces_a_write(loop, waiters):
    batch = WriteBatch(asyncio.get_running_loop())
    starts = Starts(loop, batch)
    starts.streams = 1

    wake_all(starts, waiters)

    assert batch._expected == MAX_STARTED
