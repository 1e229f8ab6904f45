"""Who waits too long is told, and nobody else."""

import asyncio

import pytest

from nexus.proxy.deadlines import Deadlines
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


async def test_each_gives_up_at_its_own_time_whatever_the_order(deadlines, now):
    later, sooner, middle = Waiting(), Waiting(), Waiting()
    for late, after_s in ((later, 0.09), (sooner, 0.03), (middle, 0.06)):
        deadlines.begin(late, now + after_s)

    await eventually(lambda: not len(deadlines))

    assert now + 0.03 <= sooner.gave_up_at <= middle.gave_up_at <= later.gave_up_at
    assert now + 0.06 <= middle.gave_up_at
    assert now + 0.09 <= later.gave_up_at


async def test_those_found_late_together_give_up_in_the_order_of_their_times(deadlines, now):
    later, sooner, middle = Waiting(), Waiting(), Waiting()
    for late, before_s in ((later, 1), (sooner, 3), (middle, 2)):
        deadlines.begin(late, now - before_s)

    await eventually(lambda: not len(deadlines))

    assert sooner.gave_up_at < middle.gave_up_at < later.gave_up_at


async def test_who_has_ended_is_not_told(deadlines, now):
    ended, other = Waiting(), Waiting()
    deadlines.begin(ended, now + 0.02)
    deadlines.begin(other, now + 0.04)

    deadlines.end(ended)
    deadlines.end(ended)
    await asyncio.sleep(0.08)

    assert ended.gave_up_at is None
    assert other.gave_up_at is not None


async def test_one_that_is_over_already_is_told_in_the_next_step(deadlines, now):
    late = Waiting()
    deadlines.begin(late, now - 1)

    await asyncio.sleep(0.01)

    assert late.gave_up_at is not None


async def test_who_begins_while_others_give_up_waits_for_its_own_time(deadlines, now):
    second = Waiting()

    class First(Waiting):
        def give_up_waiting(self):
            deadlines.begin(second, now + 0.05)

    deadlines.begin(First(), now + 0.01)
    await asyncio.sleep(0.03)
    assert second.gave_up_at is None

    await asyncio.sleep(0.05)
    assert second.gave_up_at is not None


async def test_one_that_is_ended_by_another_that_gives_up_is_not_told(deadlines, now):
    second = Waiting()

    class First(Waiting):
        def give_up_waiting(self):
            deadlines.end(second)

    deadlines.begin(First(), now - 2)
    deadlines.begin(second, now - 1)
    await eventually(lambda: not len(deadlines))

    assert second.gave_up_at is None
