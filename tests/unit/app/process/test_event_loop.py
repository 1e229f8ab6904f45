"""The event loop runs to the end of its main task, whatever other tasks raise."""

import asyncio

import pytest
from structlog.testing import capture_logs

from nexus.app.process.event_loop import run
from nexus.errors import StartError


async def ends_the_process():
    raise SystemExit(3)


async def goes_on(reached):
    loop = asyncio.get_running_loop()
    task = loop.create_task(ends_the_process())
    await asyncio.sleep(0.01)
    reached.append(type(task.exception()))


def test_a_task_that_raises_system_exit_is_logged_and_ends_alone():
    reached = []

    with capture_logs() as logs:
        run(goes_on(reached), ())

    assert reached == [SystemExit]
    assert [line["event"] for line in logs] == ["exit_ignored"]


def test_an_exception_of_main_is_raised():
    async def fails():
        raise StartError("no port")

    with pytest.raises(StartError):
        run(fails(), ())


def test_main_may_raise_system_exit():
    with pytest.raises(SystemExit):
        run(ends_the_process(), ())


def test_a_task_that_ignores_cancellation_is_abandoned():
    async def never_ends():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    async def leaves_one_behind():
        keep.append(asyncio.get_running_loop().create_task(never_ends(), name="stubborn"))
        await asyncio.sleep(0.01)

    keep = []
    with capture_logs() as logs:
        run(leaves_one_behind(), ())

    assert [(line["event"], line["task"]) for line in logs] == [("task_abandoned", "stubborn")]
