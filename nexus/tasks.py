"""Background tasks that are kept, named, reported when they die, and restarted when they must not."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger("nexus.tasks")

_running: set[asyncio.Task[Any]] = set()

FIRST_RESTART_DELAY_S = 0.5
LONGEST_RESTART_DELAY_S = 30.0


def start(work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
    """Run *work* once in a task that is referenced until it ends; a failure is logged, never lost."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


def keep_running(work: Callable[[], Awaitable[Any]], *, name: str) -> asyncio.Task[Any]:
    """Run *work* until it returns: when it fails it is reported and started again, a little later each time."""
    return start(_forever(work, name), name=name)


async def stop(*tasks: asyncio.Task[Any]) -> None:
    """Cancel *tasks* and wait until each has ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _forever(work: Callable[[], Awaitable[Any]], name: str) -> None:
    delay_s = FIRST_RESTART_DELAY_S
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            await work()
        except Exception:
            # A background loop that dies silently is how health checks stop for ever: say so, and go on.
            log.exception("task_failed", task=name, restart_in_s=delay_s)
        else:
            return
        if loop.time() - began > LONGEST_RESTART_DELAY_S:
            delay_s = FIRST_RESTART_DELAY_S
        await asyncio.sleep(delay_s)
        delay_s = min(delay_s * 2, LONGEST_RESTART_DELAY_S)


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if task.cancelled():
        return
    if exc := task.exception():
        log.error("task_failed", task=task.get_name(), exc_info=exc)
