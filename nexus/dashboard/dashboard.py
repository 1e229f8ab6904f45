"""The dashboard put together: what it shows, where that comes from, and who may look on."""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs

from nexus import tasks
from nexus.admin.backends.applicants import applicant_views
from nexus.admin.backends.changes import FleetChanges
from nexus.admin.backends.files import file_views
from nexus.admin.backends import actions as draining
from nexus.admin.backends.view import backends, last_seen_of, view_of
from nexus.admin.configuration import CONFIG_PATH, configuration_page
from nexus.admin.health import count, health_word
from nexus.admin.page import json_page
from nexus.admin.plugins.inventory import running_inventory
from nexus.admin.reports import reports_of
from nexus.admin.stats import queue_facts, request_facts
from nexus.app.composition.blueprint import Blueprint
from nexus.app.running.telemetry import Telemetry
from nexus.dashboard.assets import Asset, load_assets
from nexus.dashboard.feed import Feed, Viewer
from nexus.dashboard.front_page import locked_page, status_page
from nexus.dashboard.overview import Overview, Sources
from nexus.dashboard.spend import follow_spend
from nexus.dashboard.tickets import Tickets
from nexus.domain.routes import Page, PageRequest, PageRoute, SocketRoute
from nexus.errors import RequestError
from nexus.fleet.fleet import Fleet
from nexus.proxy.dispatch.websocket import text_frame
from nexus.proxy.exchange.context import DataPlane

GREETING: Final = b"Ollama is running"
"""What Ollama's clients look for at ``/`` before they use a server."""
POST_ONLY: Final = frozenset({"POST"})

OF_ONE_BACKEND: Final = frozenset({"PATCH", "DELETE"})


class Dashboard:
    """Lives as long as the proxy; each configuration has pages of its own."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        plane: DataPlane,
        telemetry: Telemetry,
        blueprint: Callable[[], Blueprint],
        uptime_s: Callable[[], float],
    ) -> None:
        """:param blueprint: the one in force."""
        self._fleet = fleet
        self._plane = plane
        self._telemetry = telemetry
        self._blueprint = blueprint
        self._uptime_s = uptime_s
        self._tickets = Tickets()
        self._assets = load_assets()
        self._template = self._assets["index.html"].body.decode()
        self._overview = Overview(
            Sources(
                snapshot=lambda: fleet.snapshot,
                view=lambda backend: view_of(backend, fleet.origin_of(backend.id)),
                last_seen=lambda backend: last_seen_of(fleet.origin_of(backend.id)),
                next_probe_at=fleet.next_probe_at,
                timeline=telemetry.timeline,
                standing=self._standing,
                plugins=lambda: running_inventory(blueprint()),
                requests_since=telemetry.history.after,
                kinds=lambda: fleet.kinds,
            )
        )
        self._feed = Feed(self._overview, text_frame)
        self._following = tasks.keep_running(
            partial(follow_spend, telemetry.timeline, lambda: self._budget().get("current_spending_usd")),
            name="dashboard-spend",
        )

    async def stop(self) -> None:
        """Send all viewers away."""
        await tasks.stop(self._following)
        await self._feed.stop()

    def pages(self) -> tuple[PageRoute, ...]:
        """Return the page, what it is made of, and what it asks for."""
        fleet = self._fleet
        actions: dict[str, draining.Action] = {
            "drain": fleet.drain,
            "undrain": fleet.undrain,
            "approve": fleet.approve,
            "reject": fleet.reject,
        }
        changes = FleetChanges(fleet, self._only_admins_change, lambda: self._blueprint().file)
        return (
            PageRoute(path="/", respond=self._front, access="open"),
            *(
                PageRoute(path=f"/assets/{name}", respond=partial(_asset, asset), access="open")
                for name, asset in self._assets.items()
                if name != "index.html"
            ),
            PageRoute(path="/admin/overview", respond=lambda _: json_page(self._overview.whole()), access="admin"),
            PageRoute(
                path="/admin/plugins",
                respond=lambda _: json_page({"plugins": running_inventory(self._blueprint())}),
                access="admin",
            ),
            PageRoute(
                path=CONFIG_PATH,
                respond=lambda _: configuration_page(self._blueprint().loaded, fleet),
                access="admin",
            ),
            PageRoute(
                path="/admin/backends",
                methods=frozenset({"GET", "HEAD", "POST"}),
                respond=lambda asked: (
                    changes.add(asked)
                    if asked.method == "POST"
                    else backends(
                        fleet.snapshot, fleet.origin_of, fleet.applicants, file_views(fleet.files, fleet.clashes)
                    )
                ),
                access="admin",
            ),
            PageRoute(
                path=draining.PATH,
                methods=POST_ONLY | OF_ONE_BACKEND,
                narrower=lambda path: POST_ONLY if "/" in path.removeprefix(draining.PATH) else OF_ONE_BACKEND,
                respond=partial(_change, actions, changes, fleet),
                access="admin",
            ),
            PageRoute(
                path="/admin/feed-ticket",
                methods=POST_ONLY,
                respond=lambda asked: json_page({"ticket": self._tickets.issue(asked.is_still_admin)}),
                access="admin",
            ),
        )

    def sockets(self) -> tuple[SocketRoute, ...]:
        """Return the live feed."""
        return (SocketRoute("/ws", self._admit),)

    def reloaded(self) -> None:
        """Send those viewers away whose key is not accepted any more."""
        self._feed.close_expired()

    def _admit(self, asked: PageRequest) -> Callable[[Viewer], Awaitable[None]]:
        (ticket,) = parse_qs(asked.query).get("ticket", [""])[:1]
        is_admitted = self._tickets.redeem(ticket)
        if is_admitted is None:
            raise RequestError("invalid_api_key", "the feed needs a fresh ticket: POST /admin/feed-ticket")
        return partial(self._feed.serve, is_admitted=is_admitted)

    def _front(self, asked: PageRequest) -> Page:
        if "text/html" in asked.accept:
            if not asked.is_admin:
                return locked_page(self._template)
            now_unix_s = time.time()  # noqa: TID251 - an instant to show
            return status_page(self._template, self._fleet.snapshot, uptime_s=self._uptime_s(), now_unix_s=now_unix_s)
        if not asked.is_known:
            raise RequestError("invalid_api_key", "a valid key is needed", headers={"WWW-Authenticate": "Bearer"})
        return Page(200, "text/plain; charset=utf-8", GREETING)

    def _standing(self) -> Mapping[str, Any]:
        counts = count(self._fleet.snapshot)
        config = self._blueprint().config
        return {
            "status": health_word(counts),
            "health": counts,
            "uptime_seconds": int(self._uptime_s()),
            "in_flight": self._plane.in_flight,
            "queue": queue_facts(self._plane.line, is_enabled=config.queue.enabled),
            "requests": request_facts(self._telemetry.metrics.all),
            "rejections": self._telemetry.rejections.last_five_minutes(),
            "pending": applicant_views(self._fleet.applicants),
            "budget": self._budget() or None,
        }

    def _only_admins_change(self) -> bool:
        """Whether those who may call the pages are administrators, rather than all clients with a key."""
        server = self._blueprint().config.server
        return bool(server.admin_keys) or not server.api_keys

    def _budget(self) -> Mapping[str, Any]:
        # The others' reports can be long, and this is asked every second.
        stages = [stage for stage in self._blueprint().router.pipeline.stages if stage.place.name == "budget"]
        return next((report.section for report in reports_of(stages).values()), {})


def _change(
    actions: Mapping[str, draining.Action], changes: FleetChanges, fleet: Fleet, asked: PageRequest
) -> Awaitable[Page]:
    if asked.method == "PATCH":
        return changes.change(asked)
    if asked.method == "DELETE":
        return changes.remove(asked)
    return draining.change(
        actions,
        lambda: fleet.snapshot,
        asked,
        are_decisions_kept=fleet.are_decisions_kept,
        has_announced_itself=fleet.has_announced_itself,
    )


def _asset(asset: Asset, _asked: PageRequest) -> Page:
    return Page(200, asset.content_type, asset.body, _ASSET_HEADERS)


_ASSET_HEADERS: Final = {"Cache-Control": "no-cache"}
"""Kept by browsers, and asked for each time: a newer proxy has newer files under the same names."""
