"""Background tasks log their failures and, if they must keep running, are restarted."""

import asyncio

import pytest
from structlog.testing import capture_logs

from nexus import tasks


async def test_a_task_returns_its_result():
    async def answer():
        return 42

    assert await tasks.start(answer(), name="answer") == 42


async def test_a_failure_is_logged_with_the_name_of_the_task_and_its_owner():
    async def fail():
        raise ValueError("no")

    token = tasks.OWNER.set({"plugin": "night"})
    with capture_logs() as log:
        task = tasks.start(fail(), name="owls")
        await asyncio.wait([task])
        await asyncio.sleep(0)
    tasks.OWNER.reset(token)

    (line,) = log
    assert (line["event"], line["task"], line["plugin"]) == ("task_failed", "owls", "night")


@pytest.mark.parametrize("raised", [SystemExit(1), KeyboardInterrupt()])
async def test_no_task_ends_the_event_loop(raised):
    async def leave():
        raise raised

    with capture_logs():
        task = tasks.start(leave(), name="leaving")
        await asyncio.wait([task])

    assert isinstance(task.exception(), tasks.TaskExit)


async def test_a_task_that_must_keep_running_is_restarted(monkeypatch):
    monkeypatch.setattr(tasks, "FIRST_RESTART_DELAY_S", 0.0)
    runs = []

    async def work():
        runs.append(len(runs))
        if len(runs) < 3:
            raise ValueError

    with capture_logs() as log:
        await tasks.keep_running(work, name="work")

    assert runs == [0, 1, 2]
    assert [line["event"] for line in log] == ["task_failed"] * 2


async def test_a_stopped_task_is_not_restarted():
    begun = asyncio.Event()

    async def work():
        begun.set()
        await asyncio.Event().wait()

    task = tasks.keep_running(work, name="work")
    await begun.wait()
    await tasks.stop(task)

    assert task.cancelled()
