"""Starts and stops the background services of plugins."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final

import structlog

from nexus import tasks
from nexus.containment import described
from nexus.errors import PluginError
from nexus.plugin_manager import Contributions, Plugin
from nexus.store.store import Store

log = structlog.get_logger("nexus.app")

ENTER_S: Final = 30.0
"""How long a service may take to start at a reload; at the start of Nexus there is no limit."""
LEAVE_S: Final = 5.0
"""How long a service may take to stop."""
CANCELLED_S: Final = 1.0
"""How long a cancelled service may take to end before it is abandoned."""


async def start_services(
    contributions: Contributions, store: Store, wake: Callable[[], None], *, enter_s: float | None = None
) -> AsyncExitStack:
    """Start all services of *contributions*, or none; closing the returned stack stops them in reverse order.

    :param wake: makes queued requests try again.
    :param enter_s: how long each may take to start; None: no limit.
    :raises PluginError: one does not start.
    """
    async with AsyncExitStack() as services:
        for plugin, service in contributions.services(store, wake):
            running = _Service(plugin, service)
            await running.enter(enter_s)
            services.push_async_callback(running.leave)
        return services.pop_all()


class _Service:
    """A service in a task of its own, because some context managers must be left by the task that entered them."""

    def __init__(self, plugin: Plugin, service: AbstractAsyncContextManager[Any]) -> None:
        self._plugin = plugin
        self._service = service
        self._entered: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        """Done once the service has started or failed; the result is the exception, None without one."""
        self._leave = asyncio.Event()
        self._task: asyncio.Task[None]

    async def enter(self, within_s: float | None) -> None:
        """:raises PluginError: it does not start, or not in time."""
        owner = tasks.OWNER.set({"plugin": self._plugin.name, "distribution": self._plugin.distribution})
        try:
            self._task = tasks.start(self._run(), name=f"service of {self._plugin.name}")
        finally:
            tasks.OWNER.reset(owner)
        try:
            async with asyncio.timeout(within_s):
                failure = await self._entered
        except TimeoutError:
            await self._cancel()
            raise PluginError(
                f"plugin {self._plugin.label}: its service does not start: it is not ready after {within_s:g} s"
            ) from None
        except asyncio.CancelledError:
            await self._cancel()
            raise
        if failure is not None:
            raise PluginError(
                f"plugin {self._plugin.label}: its service does not start: {described(failure)}"
            ) from failure

    async def leave(self) -> None:
        """Stop the service; cancel it if it takes too long, and abandon it if that fails."""
        self._leave.set()
        _, late = await asyncio.wait({self._task}, timeout=LEAVE_S)
        if late:
            self._log_late(f"it has not ended after {LEAVE_S:g} s, and is cancelled")
            await self._cancel()

    async def _cancel(self) -> None:
        self._leave.set()
        self._task.cancel()
        _, late = await asyncio.wait({self._task}, timeout=CANCELLED_S)
        if late:
            self._log_late("it ignores its cancellation, and is abandoned")

    def _log_late(self, reason: str) -> None:
        log.error(
            "service_not_stopped", plugin=self._plugin.name, distribution=self._plugin.distribution, reason=reason
        )

    async def _run(self) -> None:
        try:
            async with self._service:
                self._note_entered(None)
                await self._leave.wait()
        except BaseException as exc:
            if tasks.is_from_outside(exc):
                raise
            if not self._entered.done():
                self._note_entered(exc)
            elif self._leave.is_set():
                # A failure to stop must not keep others from stopping, or undo a reload that has succeeded.
                plugin = self._plugin
                log.exception("service_not_stopped", plugin=plugin.name, distribution=plugin.distribution)
            else:
                raise

    def _note_entered(self, failure: BaseException | None) -> None:
        # It is already done if the start timed out.
        if not self._entered.done():
            self._entered.set_result(failure)
