"""Collects the pages of one configuration: those of admin, of the dashboard and of plugins."""

from nexus.admin import configuration, health, history, models, queue, stats
from nexus.admin.backends import pages as backends
from nexus.admin.openapi.document import openapi_route
from nexus.admin.openapi.operation import DescribedRoute
from nexus.admin.plugins import inventory, plugin_page
from nexus.admin.routing import decisions
from nexus.admin.routing.explain import Explainer
from nexus.admin.workers import Workers
from nexus.app.composition.blueprint import Blueprint
from nexus.app.running.telemetry import Telemetry
from nexus.dashboard.dashboard import Dashboard
from nexus.domain.fleet import FleetSnapshot
from nexus.fleet.fleet import Fleet
from nexus.proxy.exchange.context import DataPlane
from nexus.workers.peers import Peers


def pages(  # noqa: PLR0913 - all that pages show
    blueprint: Blueprint,
    state: health.ProxyState,
    fleet: Fleet,
    plane: DataPlane,
    telemetry: Telemetry,
    dashboard: Dashboard,
    peers: Peers | None = None,
) -> tuple[DescribedRoute, ...]:
    """Return every page under *blueprint*, and the page that describes them.

    :param peers: the other processes that serve, whose parts of pages are merged with those of this one.
    """

    def snapshot() -> FleetSnapshot:
        return fleet.snapshot

    def uptime_s() -> float:
        return state.uptime_s

    def workers() -> Workers:
        return state.workers

    totals = stats.totals_question(telemetry.metrics, peers)
    server, router = blueprint.config.server, blueprint.router
    routes = (
        *health.routes(snapshot, state, router.pipeline),
        *models.routes(snapshot, router.names.naming),
        Explainer(router, snapshot, blueprint.config.queue, blueprint.access_rules, plane.queue).route(),
        *decisions.routes(plane.decisions, peers),
        *plugin_page.routes(blueprint.contributions.routes()),
        *dashboard.routes(),
        inventory.route(lambda: plugin_rows(blueprint)),
        configuration.route(blueprint.loaded, fleet),
        *backends.routes(
            fleet, only_admins=bool(server.admin_keys) or not server.api_keys, file=blueprint.file, peers=peers
        ),
        telemetry.metrics_page(blueprint.config.metrics, peers, workers).route(),
        stats.StatsPage(snapshot, totals, plane, uptime_s, workers, peers).route(),
        history.route(telemetry.history, peers),
        queue.route(plane, peers),
    )
    return (*routes, openapi_route(routes, dashboard.sockets(), server))


def plugin_rows(blueprint: Blueprint) -> tuple[inventory.PluginRow, ...]:
    """Return the plugins of *blueprint* as they are now."""
    stages = blueprint.router.pipeline.stages
    return inventory.inventory(blueprint.loaded, blueprint.plugins, blueprint.contributions, stages)
