"""Deadlines of calls."""

import asyncio
import time

import pytest

from nexus_redis.deadlines import answered_within


async def test_what_takes_too_long_ends_in_time():
    began = time.monotonic()

    with pytest.raises(TimeoutError):
        async with answered_within(0.05):
            await asyncio.Event().wait()

    assert time.monotonic() - began < 1


async def test_an_answer_that_a_busy_loop_reads_late_is_in_time():
    answer = asyncio.Event()

    async def read():
        for _ in range(3):
            await asyncio.sleep(0)
        answer.set()

    async with answered_within(0.02):
        reading = asyncio.ensure_future(read())
        time.sleep(0.06)  # noqa: ASYNC251 - the loop is busy beyond the deadline
        await answer.wait()

    await reading


async def test_what_ends_in_time_leaves_nothing_behind():
    async with answered_within(0.01):
        pass

    await asyncio.sleep(0.02)
