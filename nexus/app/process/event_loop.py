"""Runs the event loop until the proxy has stopped, even if a callback of a plugin raises SystemExit.

A ``SystemExit`` or ``KeyboardInterrupt`` in a task or callback stops its loop. Nexus contains what plugins raise where
it calls them; this is for callbacks that a plugin, or a library that it uses, has scheduled itself.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from traceback import walk_tb
from typing import Any, Final

import structlog
import uvloop

from nexus.containment import is_interrupt
from nexus.plugin_manager import Plugin

log = structlog.get_logger("nexus.app")

CANCELLED_S: Final = 1.0
"""How long a task that was cancelled at the end may take to finish before it is abandoned."""


def run(main: Coroutine[Any, Any, None], plugins: Iterable[Plugin]) -> None:
    """Run *main* to its end on a new loop.

    :param plugins: the plugins to which an exception may be attributed.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loop = runner.get_loop()
        task = asyncio.Task(main, loop=loop)
        _run_to_end(loop, task, plugins)
        _run_to_end(loop, asyncio.Task(_end_others(), loop=loop), plugins)
        task.result()


def _run_to_end(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]", plugins: Iterable[Plugin]) -> None:
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as exc:
            if is_interrupt(exc) or _has_raised(task, exc):
                raise
            log.exception("exit_ignored", **blamed(exc, plugins))
        except BaseException:
            # An exception of the task itself is raised by task.result() later.
            if not task.done():
                raise


async def _end_others() -> None:
    """Cancel the remaining tasks, and abandon those that do not end: the runner would wait for them forever."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if not others:
        return
    _, late = await asyncio.wait(others, timeout=CANCELLED_S)
    if late:
        # asyncio would log each abandoned task once more.
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    for task in late:
        log.error("task_abandoned", task=task.get_name())
        asyncio._unregister_task(task)  # noqa: SLF001 - documented, for those who extend asyncio


def _has_raised(task: "asyncio.Task[None]", exc: BaseException) -> bool:
    return task.done() and not task.cancelled() and task.exception() is exc


def blamed(exc: BaseException, plugins: Iterable[Plugin]) -> Mapping[str, str]:
    """Return log fields for the plugin with the innermost frame in the traceback of *exc*; empty without one."""
    owners = {package: plugin for plugin in plugins for package in _packages(plugin)}
    for frame, _ in reversed([*walk_tb(exc.__traceback__)]):
        plugin = owners.get(str(frame.f_globals.get("__name__")).partition(".")[0])
        if plugin is not None:
            return {"plugin": plugin.name, "distribution": plugin.distribution}
    return {}


def _packages(plugin: Plugin) -> set[str]:
    implementations = (implementation for hook in plugin.hooks.values() for implementation in hook)
    return {str(getattr(i.function, "__module__", "")).partition(".")[0] for i in implementations}
