"""A waiter gives up at its deadline, and no other does."""

import asyncio

import pytest

from nexus.proxy.exchange.first_byte import Deadlines
from nexus.testing.waiting import eventually


class Waiting:
    def __init__(self):
        self.gave_up_at = None

    def give_up_waiting(self):
        self.gave_up_at = asyncio.get_running_loop().time()


@pytest.fixture
async def deadlines():
    return Deadlines(asyncio.get_running_loop())


@pytest.fixture
async def now():
    return asyncio.get_running_loop().time()


async def test_each_waiter_gives_up_at_its_own_deadline(deadlines, now):
    later, sooner, middle = Waiting(), Waiting(), Waiting()
    for late, after_s in ((later, 0.09), (sooner, 0.03), (middle, 0.06)):
        deadlines.begin(late, now + after_s)

    await eventually(lambda: not len(deadlines))

    assert now + 0.03 <= sooner.gave_up_at <= middle.gave_up_at <= later.gave_up_at
    assert now + 0.06 <= middle.gave_up_at
    assert now + 0.09 <= later.gave_up_at


async def test_overdue_waiters_give_up_in_the_order_of_their_deadlines(deadlines, now):
    later, sooner, middle = Waiting(), Waiting(), Waiting()
    for late, before_s in ((later, 1), (sooner, 3), (middle, 2)):
        deadlines.begin(late, now - before_s)

    await eventually(lambda: not len(deadlines))

    assert sooner.gave_up_at < middle.gave_up_at < later.gave_up_at


async def test_a_cancelled_deadline_does_not_expire(deadlines, now):
    ended, other = Waiting(), Waiting()
    deadlines.begin(ended, now + 0.02)
    deadlines.begin(other, now + 0.04)

    deadlines.end(ended)
    deadlines.end(ended)
    await asyncio.sleep(0.08)

    assert ended.gave_up_at is None
    assert other.gave_up_at is not None


async def test_a_deadline_in_the_past_expires_in_the_next_step(deadlines, now):
    late = Waiting()
    deadlines.begin(late, now - 1)

    await asyncio.sleep(0.01)

    assert late.gave_up_at is not None


async def test_a_deadline_set_while_others_expire_waits_for_its_time(deadlines, now):
    second = Waiting()

    class First(Waiting):
        def give_up_waiting(self):
            deadlines.begin(second, now + 0.05)

    deadlines.begin(First(), now + 0.01)
    await asyncio.sleep(0.03)
    assert second.gave_up_at is None

    await asyncio.sleep(0.05)
    assert second.gave_up_at is not None


async def test_a_deadline_cancelled_by_a_waiter_that_gives_up_does_not_expire(deadlines, now):
    second = Waiting()

    class First(Waiting):
        def give_up_waiting(self):
            deadlines.end(second)

    deadlines.begin(First(), now - 2)
    deadlines.begin(second, now - 1)
    await eventually(lambda: not len(deadlines))

    assert second.gave_up_at is None
