"""Background tasks whose failures are logged, and which are restarted if they must keep running."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

import structlog

from nexus.containment import is_interrupt

log = structlog.get_logger("nexus.tasks")

_running: set[asyncio.Task[Any]] = set()

OWNER: Final[ContextVar[Mapping[str, str]]] = ContextVar("nexus_tasks_owner", default={})  # noqa: B039 - never changed
"""The owner of tasks started in this context, as fields of the log: a plugin and its distribution."""

FIRST_RESTART_DELAY_S = 0.5
MAX_RESTART_DELAY_S = 30.0


def start(work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
    """Run *work* once in a task that is referenced until it ends; a failure is logged.

    A ``SystemExit`` or ``KeyboardInterrupt`` of *work*, which would end the event loop, becomes a :class:`TaskExit`.
    """
    task = asyncio.get_running_loop().create_task(_once(work), name=name)
    _running.add(task)
    task.add_done_callback(partial(_ended, work))
    return task


def keep_running(work: Callable[[], Awaitable[Any]], *, name: str) -> asyncio.Task[Any]:
    """Run *work* until it returns; each failure is logged, and *work* restarted after an increasing delay."""
    return start(_forever(work, name), name=name)


async def stop(*tasks: asyncio.Task[Any]) -> None:
    """Cancel *tasks* and wait until each has ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def is_from_outside(exc: BaseException) -> bool:
    """Whether *exc* comes from outside of the running code: its task is cancelled, or the operator pressed Ctrl-C."""
    if isinstance(exc, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return is_interrupt(exc)


class TaskExit(Exception):
    """A task has raised an exception that would end the process."""


async def _once(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as exc:
        if is_interrupt(exc):
            raise
        raise TaskExit(f"{type(exc).__name__} ends no task but its own") from exc


async def _forever(work: Callable[[], Awaitable[Any]], name: str) -> None:
    delay_s = FIRST_RESTART_DELAY_S
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            await work()
        except BaseException as exc:
            if is_from_outside(exc) or _is_being_closed(exc):
                raise
            # A background loop that ended silently could stop health checks for ever.
            log.exception("task_failed", task=name, restart_in_s=delay_s, **OWNER.get())
        else:
            return
        if loop.time() - began > MAX_RESTART_DELAY_S:
            delay_s = FIRST_RESTART_DELAY_S
        await asyncio.sleep(delay_s)
        delay_s = min(delay_s * 2, MAX_RESTART_DELAY_S)


def _is_being_closed(exc: BaseException) -> bool:
    # Raised in a coroutine that is discarded outside of any task, which must let it end.
    return isinstance(exc, GeneratorExit) and asyncio.current_task() is None


def _ended(work: Coroutine[Any, Any, Any], task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    # A task that is cancelled before it begins never awaits its coroutine.
    work.close()
    try:
        # Asked for even if it was cancelled: otherwise the task keeps its exception, whose frames may refer to the
        # task, and only the garbage collector would free them.
        exc = task.exception()
    except asyncio.CancelledError:
        return
    if exc:
        cause = exc.__cause__ if isinstance(exc, TaskExit) else exc
        log.error("task_failed", task=task.get_name(), exc_info=cause, **OWNER.get())
