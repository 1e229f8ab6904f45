"""Which paths Nexus answers itself, besides the dashboard: listings, health, decisions, and the pages of plugins."""

import time
from collections.abc import Callable
from functools import partial

import msgspec

from nexus.admin.health import health, ready
from nexus.admin.plugins.plugin_page import plugin_page
from nexus.admin.routing.decisions import DECISIONS_PATH, list_decisions, show_decision
from nexus.admin.routing.explain import Explainer
from nexus.app.composition.blueprint import Blueprint
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.naming import Naming
from nexus.domain.routes import Page, PageRequest, PageRoute
from nexus.proxy.dispatch.explained_path import EXPLAIN_PATH
from nexus.proxy.exchange.context import DataPlane
from nexus.wire.listings import LISTINGS


class Standing(msgspec.Struct):
    """What the pages show of Nexus itself; it moves."""

    started_at: float
    """Of the monotonic clock."""
    is_draining: bool = False
    rejected_reload: str | None = None
    """Why the last reload was refused, None when it was not."""
    store_failure: Callable[[], str | None] = lambda: None
    """Tells why the store failed when it was last used, None when it did not."""
    waiting: Callable[[], int] = lambda: 0
    """Tells how many servers wait for an approval."""

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self.started_at


def pages(
    blueprint: Blueprint, snapshot: Callable[[], FleetSnapshot], standing: Standing, plane: DataPlane
) -> tuple[PageRoute, ...]:
    """Return the pages of *blueprint*, but for those of telemetry and of the dashboard."""
    naming = blueprint.router.aliases.naming
    return (
        PageRoute(path="/health", respond=lambda _: health(snapshot(), uptime_s=standing.uptime_s)),
        PageRoute(
            path="/ready",
            respond=lambda _: ready(
                snapshot(),
                is_draining=standing.is_draining,
                rejected_reload=standing.rejected_reload,
                switched_off_stages=tuple(s.place.name for s in blueprint.router.pipeline.stages if s.is_off),
                store_failure=standing.store_failure(),
                waiting=standing.waiting(),
            ),
        ),
        *(
            PageRoute(
                path=listing.path,
                methods=frozenset(listing.methods),
                respond=partial(_listed, listing.respond, snapshot, naming),
            )
            for listing in LISTINGS
        ),
        *_routing_pages(blueprint, snapshot, plane),
        *(
            PageRoute(path=route.path, respond=plugin_page(plugin, route), access="admin")
            for plugin, route in blueprint.contributions.routes()
        ),
    )


def _routing_pages(
    blueprint: Blueprint, snapshot: Callable[[], FleetSnapshot], plane: DataPlane
) -> tuple[PageRoute, ...]:
    """Return the pages that tell what is decided about requests, and why."""
    explainer = Explainer(blueprint.router, snapshot, blueprint.config.queue, lambda: len(plane.line))
    return (
        PageRoute(path=EXPLAIN_PATH, methods=frozenset({"POST"}), respond=explainer.respond, takes_requests=True),
        PageRoute(path=DECISIONS_PATH, respond=partial(list_decisions, plane.decisions)),
        PageRoute(path=f"{DECISIONS_PATH}/", respond=partial(show_decision, plane.decisions)),
    )


def _listed(
    respond: Callable[[PageRequest, FleetSnapshot, Naming], Page],
    snapshot: Callable[[], FleetSnapshot],
    naming: Naming,
    asked: PageRequest,
) -> Page:
    return respond(asked, snapshot(), naming)
