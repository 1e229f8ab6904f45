"""The dashboard: its page and files, the figures behind it, and the live feed."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs

from nexus import tasks
from nexus.admin.backends.applicants import applicant_views
from nexus.admin.health import count, health_word
from nexus.admin.history import History
from nexus.admin.openapi.operation import DescribedRoute, DescribedSocket, Operation, Parameter
from nexus.admin.page import json_page
from nexus.admin.plugins.inventory import PluginRow
from nexus.admin.reports import reports_of
from nexus.admin.stats import queue_facts, request_facts, totals_question
from nexus.dashboard.assets import Asset, load_assets
from nexus.dashboard.feed import Feed
from nexus.dashboard.front_page import locked_page, status_page
from nexus.dashboard.overview import Overview, Sources
from nexus.dashboard.shared_overview import SharedOverview
from nexus.dashboard.shared_tickets import SharedTickets
from nexus.dashboard.spend import follow_spend
from nexus.dashboard.tickets import Tickets
from nexus.domain.routes import Page, PageRequest
from nexus.errors import RequestError
from nexus.fleet.fleet import Fleet
from nexus.observability.metrics.exchanges import ExchangeMetrics
from nexus.observability.metrics.recent_rejections import RecentRejections
from nexus.observability.metrics.timeline import Timeline
from nexus.proxy.dispatch.websocket import Socket, text_frame
from nexus.proxy.exchange.context import DataPlane
from nexus.workers.peers import Peers

GREETING: Final = b"Ollama is running"
"""What Ollama's clients look for at ``/`` before they use a server."""

_ASSET_HEADERS: Final = {"Cache-Control": "no-cache"}
"""Browsers keep the files and revalidate them: a newer proxy has newer files under the same names."""
_ASSET: Final = Operation(
    summary="A file of the dashboard", content_types=("text/css", "text/javascript", "image/svg+xml")
)


class Dashboard:
    """Lives as long as the proxy; reloads do not interrupt it."""

    def __init__(  # noqa: PLR0913 - all that it shows
        self,
        *,
        fleet: Fleet,
        plane: DataPlane,
        metrics: ExchangeMetrics,
        history: History,
        timeline: Timeline,
        rejections: RecentRejections,
        plugins: Callable[[], Sequence[PluginRow]],
        uptime_s: Callable[[], float],
        peers: Peers | None = None,
    ) -> None:
        """:param peers: other processes that serve the dashboard; None: there are none."""
        self._fleet = fleet
        self._plane = plane
        self._metrics = metrics
        self._rejections = rejections
        self._uptime_s = uptime_s
        self._tickets = Tickets() if peers is None else SharedTickets(peers, lambda: plane.settings.access)
        self._assets = load_assets()
        self._template = self._assets["index.html"].body.decode()
        sources = Sources(fleet, timeline, history, plugins, self._status)
        self._overview = (
            Overview(sources) if peers is None else SharedOverview(sources, peers, totals_question(metrics, peers))
        )
        self._feed = Feed(self._overview, text_frame)
        self._following = tasks.keep_running(
            partial(follow_spend, timeline, lambda: self._budget().get("current_spending_usd")),
            name="dashboard-spend",
        )

    async def stop(self) -> None:
        """Disconnect all viewers."""
        await tasks.stop(self._following)
        await self._feed.stop()

    def routes(self) -> tuple[DescribedRoute, ...]:
        """Return the page, its files, and what its script requests."""
        return (
            DescribedRoute(
                path="/",
                respond=self._front,
                access="open",
                operation=Operation(
                    summary="The dashboard for browsers; for other clients, what Ollama's clients look for",
                    content_types=("text/html", "text/plain"),
                    refusals=(401,),
                ),
            ),
            *(
                DescribedRoute(path=f"/assets/{name}", respond=partial(_asset, asset), access="open", operation=_ASSET)
                for name, asset in self._assets.items()
                if name != "index.html"
            ),
            DescribedRoute(
                path="/admin/overview",
                respond=self._show_overview,
                access="admin",
                operation=Operation(summary="All that the dashboard shows", answers=(dict[str, Any],)),
            ),
            DescribedRoute(
                path="/admin/feed-ticket",
                methods=frozenset({"POST"}),
                respond=self._give_ticket,
                access="admin",
                operation=Operation(
                    summary="A ticket for the live feed, good for half a minute", answers=(dict[str, str],)
                ),
            ),
        )

    def sockets(self) -> tuple[DescribedSocket, ...]:
        """Return the live feed."""
        operation = Operation(
            summary="The dashboard's live feed, a WebSocket",
            statuses=(101,),
            refusals=(400, 401, 426),
            query=(
                Parameter("ticket", "From POST /admin/feed-ticket; each admits one viewer, once.", is_required=True),
            ),
        )
        return (DescribedSocket("/ws", self._admit, operation=operation),)

    def reloaded(self) -> None:
        """Disconnect the viewers whose key is no longer accepted."""
        self._feed.close_expired()

    def _admit(self, request: PageRequest) -> Callable[[Socket], Awaitable[None]]:
        (ticket,) = parse_qs(request.query).get("ticket", [""])[:1]
        is_admitted = self._tickets.redeem(ticket)
        if is_admitted is None:
            raise RequestError("invalid_api_key", "the feed needs a fresh ticket: POST /admin/feed-ticket")
        return partial(self._feed.serve, is_admitted=is_admitted)

    async def _give_ticket(self, request: PageRequest) -> Page:
        ticket = self._tickets.issue(request.is_still_admin)
        await self._tickets.share(ticket, request.is_still_admin)
        return json_page({"ticket": ticket})

    async def _show_overview(self, _: PageRequest) -> Page:
        await self._overview.refresh(is_whole=True)
        return json_page(self._overview.whole(), headers=self._overview.headers)

    def _front(self, request: PageRequest) -> Page:
        if "text/html" in request.accept:
            if not request.is_admin:
                return locked_page(self._template)
            now_unix_s = time.time()  # noqa: TID251 - an instant to show
            return status_page(self._template, self._fleet.snapshot, uptime_s=self._uptime_s(), now_unix_s=now_unix_s)
        if not request.is_known:
            raise RequestError("invalid_api_key", "a valid key is needed", headers={"WWW-Authenticate": "Bearer"})
        return Page(200, "text/plain; charset=utf-8", GREETING)

    def _status(self) -> Mapping[str, Any]:
        counts = count(self._fleet.snapshot)
        return {
            "status": health_word(counts),
            "health": counts,
            "uptime_seconds": int(self._uptime_s()),
            "in_flight": self._plane.in_flight,
            "queue": queue_facts(self._plane.queue, is_enabled=self._plane.settings.config.queue.enabled),
            "requests": request_facts(self._metrics.all),
            "rejections": self._rejections.last_five_minutes(),
            "pending": applicant_views(self._fleet.applicants),
            "budget": self._budget() or None,
        }

    def _budget(self) -> Mapping[str, Any]:
        # Only this stage reports: the reports of others can be long, and this runs every second.
        stages = [stage for stage in self._plane.settings.router.pipeline.stages if stage.place.name == "budget"]
        return next((report.section for report in reports_of(stages).values()), {})


def _asset(asset: Asset, _request: PageRequest) -> Page:
    return Page(200, asset.content_type, asset.body, _ASSET_HEADERS)
