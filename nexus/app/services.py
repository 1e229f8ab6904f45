"""What plugins do in the background: begun as one, ended in reverse, and a failure named with its plugin."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import structlog

from nexus import tasks
from nexus.containment import told
from nexus.errors import PluginError
from nexus.plugin_manager import Contributions, Plugin
from nexus.store.store import Store

log = structlog.get_logger("nexus.app")


async def start_services(contributions: Contributions, store: Store, wake: Callable[[], None]) -> AsyncExitStack:
    """Start all services of *contributions*, or none; what is returned ends them, and never raises.

    :param wake: lets requests that wait try again.
    :raises PluginError: one does not start.
    """
    async with AsyncExitStack() as services:
        for plugin, service in contributions.services(store, wake):
            await services.enter_async_context(_blamed(plugin, service))
        return services.pop_all()


@asynccontextmanager
async def _blamed(plugin: Plugin, service: AbstractAsyncContextManager[Any]) -> AsyncGenerator[None]:
    owner = tasks.OWNER.set({"plugin": plugin.name, "distribution": plugin.distribution})
    try:
        await service.__aenter__()
    except BaseException as exc:
        if tasks.is_from_outside(exc):
            raise
        raise PluginError(f"plugin {plugin.label}: its service does not start: {told(exc)}") from exc
    finally:
        tasks.OWNER.reset(owner)
    try:
        yield
    finally:
        try:
            await service.__aexit__(None, None, None)
        except BaseException as exc:
            if tasks.is_from_outside(exc):
                raise
            # The others must end too, and a reload that has succeeded is not undone by what it replaced.
            log.exception("service_not_stopped", plugin=plugin.name, distribution=plugin.distribution)
