"""Runs the event loop until the proxy has ended, whatever a callback of a plugin raises meanwhile.

A ``SystemExit`` or ``KeyboardInterrupt`` of a task or callback ends the run of its loop. What Nexus calls itself is
contained where it is called; this is for what a plugin, or a library that it uses, has put on the loop.
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
"""How long a task that was cancelled at the end may take before it is abandoned."""


def run(main: Coroutine[Any, Any, None], plugins: Iterable[Plugin]) -> None:
    """Run *main* to its end on a loop of its own.

    :param plugins: those that may be to blame.
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
            # What the task itself has raised is read off it.
            if not task.done():
                raise


async def _end_others() -> None:
    """Cancel what still runs, and forget what goes on all the same: the runner would wait for it without an end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if not others:
        return
    _, late = await asyncio.wait(others, timeout=CANCELLED_S)
    if late:
        # What asyncio finds unfinished now has been told of.
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    for task in late:
        log.error("task_abandoned", task=task.get_name())
        asyncio._unregister_task(task)  # noqa: SLF001 - documented, for those who extend asyncio


def _has_raised(task: "asyncio.Task[None]", exc: BaseException) -> bool:
    return task.done() and not task.cancelled() and task.exception() is exc


def blamed(exc: BaseException, plugins: Iterable[Plugin]) -> Mapping[str, str]:
    """Return, as fields of the log, the plugin whose code *exc* went through last; empty when it is none's."""
    owners = {package: plugin for plugin in plugins for package in _packages(plugin)}
    for frame, _ in reversed([*walk_tb(exc.__traceback__)]):
        plugin = owners.get(str(frame.f_globals.get("__name__")).partition(".")[0])
        if plugin is not None:
            return {"plugin": plugin.name, "distribution": plugin.distribution}
    return {}


def _packages(plugin: Plugin) -> set[str]:
    implementations = (implementation for hook in plugin.hooks.values() for implementation in hook)
    return {str(getattr(i.function, "__module__", "")).partition(".")[0] for i in implementations}
