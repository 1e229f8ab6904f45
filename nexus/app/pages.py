"""Which paths Nexus answers itself: listings in each protocol, health, status, and the pages of plugins."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import msgspec

from nexus.admin.backends import backends
from nexus.admin.decisions import DECISIONS_PATH, list_decisions, show_decision
from nexus.admin.explaining import Explainer
from nexus.admin.health import health, ready
from nexus.admin.status_page import status_page
from nexus.app.blueprint import Blueprint
from nexus.app.plugin_page import plugin_page
from nexus.dashboard.assets import Asset, load_assets
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.routes import Page, PageRequest, PageRoute
from nexus.proxy.explained import EXPLAIN_PATH
from nexus.proxy.plane import DataPlane
from nexus.wire.listings import LISTINGS

GREETING: Final = b"Ollama is running"
"""What Ollama's clients look for at ``/`` before they use a server."""


class Standing(msgspec.Struct):
    """What the pages show of Nexus itself; it moves."""

    started_at: float
    """Of the monotonic clock."""
    is_draining: bool = False
    rejected_reload: str | None = None
    """Why the last reload was refused, None when it was not."""

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self.started_at


def pages(
    blueprint: Blueprint, snapshot: Callable[[], FleetSnapshot], standing: Standing, plane: DataPlane
) -> tuple[PageRoute, ...]:
    """Return every page of *blueprint*, but for those of telemetry."""
    assets = load_assets()
    template = assets["index.html"].body.decode()
    aliases = blueprint.router.aliases.targets
    return (
        PageRoute(path="/", respond=partial(_front, template, snapshot, standing)),
        PageRoute(path="/health", respond=lambda _: health(snapshot(), uptime_s=standing.uptime_s)),
        PageRoute(
            path="/ready",
            respond=lambda _: ready(
                snapshot(),
                is_draining=standing.is_draining,
                rejected_reload=standing.rejected_reload,
                switched_off_stages=tuple(s.place.name for s in blueprint.router.pipeline.stages if s.is_off),
            ),
        ),
        PageRoute(path="/admin/backends", respond=lambda _: backends(snapshot())),
        *(PageRoute(path=f"/assets/{name}", respond=partial(_asset, asset)) for name, asset in assets.items()),
        *(
            PageRoute(
                path=listing.path,
                methods=frozenset(listing.methods),
                respond=partial(_listed, listing.respond, snapshot, aliases),
            )
            for listing in LISTINGS
        ),
        *_routing_pages(blueprint, snapshot, plane),
        *(
            PageRoute(path=route.path, respond=plugin_page(plugin, route))
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


def _front(template: str, snapshot: Callable[[], FleetSnapshot], standing: Standing, asked: PageRequest) -> Page:
    if "text/html" not in asked.accept:
        return Page(200, "text/plain; charset=utf-8", GREETING)
    now_unix_s = time.time()  # noqa: TID251 - an instant to show
    return status_page(template, snapshot(), uptime_s=standing.uptime_s, now_unix_s=now_unix_s)


def _asset(asset: Asset, _asked: PageRequest) -> Page:
    return Page(200, asset.content_type, asset.body)


def _listed(
    respond: Callable[[PageRequest, FleetSnapshot, Mapping[str, tuple[str, ...]]], Page],
    snapshot: Callable[[], FleetSnapshot],
    aliases: Mapping[str, tuple[str, ...]],
    asked: PageRequest,
) -> Page:
    return respond(asked, snapshot(), aliases)
