"""Serves the admin pages of plugins, and attributes their failures to the plugin."""

import inspect
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import parse_qsl

import structlog

from nexus import tasks
from nexus.admin.openapi.operation import DescribedRoute, Operation
from nexus.admin.page import json_page
from nexus.domain.routes import AdminRoute, Page, PageRequest
from nexus.plugin_manager import Plugin

log = structlog.get_logger("nexus.plugins")


def routes(added: Iterable[tuple[Plugin, AdminRoute]]) -> tuple[DescribedRoute, ...]:
    """Return the pages that plugins have *added*."""
    return tuple(
        DescribedRoute(
            path=route.path,
            respond=plugin_page(plugin, route),
            access="admin",
            operation=Operation(
                summary=f"A page of the plugin {plugin.name}", content_types=("*/*",), statuses=(200, 500)
            ),
        )
        for plugin, route in added
    )


def plugin_page(plugin: Plugin, route: AdminRoute) -> Callable[[PageRequest], Awaitable[Page]]:
    """Return the function that answers requests for *route*."""

    async def respond(request: PageRequest) -> Page:
        try:
            reply = route.respond(dict(parse_qsl(request.query)))
            return _page(await reply if inspect.isawaitable(reply) else reply)
        except BaseException as exc:
            if tasks.is_from_outside(exc):
                raise
            log.exception("page_failed", plugin=plugin.name, distribution=plugin.distribution, path=route.path)
            error = f"the plugin '{plugin.name}' failed to make this page; see the log of Nexus"
            return json_page({"error": error}, status=500)

    return respond


def _page(reply: object) -> Page:
    match reply:
        case (int() as status, str() as content_type, bytes() as body) if (
            200 <= status < 600 and content_type.isascii() and content_type.isprintable()
        ):
            return Page(status, content_type, body)
        case _:
            raise TypeError(f"a reply is a status, a content type and bytes, not {reply!r:.200}")
