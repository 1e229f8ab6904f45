"""Nexus while it runs: started in order, reloaded as one, drained before it ends."""

import asyncio
import time
from collections import ChainMap
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final

import structlog

from nexus import tasks
from nexus.admin.health import ProxyState
from nexus.admin.openapi.operation import DescribedRoute
from nexus.app.composition.blueprint import Blueprint
from nexus.app.composition.guards import guarded_discoverers
from nexus.app.composition.loading import load_backend_here
from nexus.app.composition.own_address import is_own_address
from nexus.app.process.accept_queue import SETTLE_S, stop_listening
from nexus.app.process.binding import BACKLOG, Listening
from nexus.app.process.file_limit import file_limit
from nexus.app.running.announcing import announce
from nexus.app.running.opening import open_port, open_store
from nexus.app.running.pages import pages, plugin_rows
from nexus.app.running.services import ENTER_S, start_services
from nexus.app.running.telemetry import Telemetry
from nexus.config.rules.checks import is_loopback
from nexus.config.schema import max_waiting
from nexus.dashboard.dashboard import Dashboard
from nexus.dialing.upstream_settings import UpstreamSettings
from nexus.domain.fleet import FleetSnapshot
from nexus.errors import NexusError
from nexus.fleet.fleet import Fleet
from nexus.proxy.client.server import ProxyServer
from nexus.proxy.dispatch.handler import RequestHandler
from nexus.proxy.exchange.context import DataPlane, Settings
from nexus.proxy.exchange.queue import RequestQueue
from nexus.proxy.exchange.resource_owners import ResourceOwners
from nexus.proxy.upstream.backends import Upstreams
from nexus.proxy.write_batch import WriteBatch
from nexus.routing.decision import Reserved
from nexus.store.watched import WatchedStore

log = structlog.get_logger("nexus.app")

FIRST_PROBES_S: Final = 2.0
"""How long listening waits for backends that do not answer their first probe."""
LAME_DUCK_S: Final = 5.0
GRACE_S: Final = 1.0
"""How long idle connections stay open once nothing is accepted any more: a request that is on its way is answered."""
LAST_WORDS_S: Final = 2.0
"""How long the error events of streams that were cut may take to be written."""


class Nexus:
    """A running proxy; :meth:`start` and :meth:`stop` once each, :meth:`reload` as often as one likes."""

    def __init__(self, blueprint: Blueprint) -> None:
        self.blueprint = blueprint
        self.state = ProxyState(started_at=time.monotonic())
        self.port = 0
        self._telemetry = Telemetry(lambda: self._fleet.snapshot)
        self._servers: list[asyncio.Server] = []
        self._listening: Listening
        self._resources = AsyncExitStack()
        self._closing: asyncio.Task[None] | None = None
        self._services: AsyncExitStack
        self._reloading = asyncio.Lock()
        self._entering: asyncio.Timeout | None = None
        """While a reload starts services: it need not get to the end of that before Nexus stops."""
        self._store: WatchedStore
        self._fleet: Fleet
        self._plane: DataPlane
        self._line: RequestQueue[Reserved] | None = None
        self._dashboard: Dashboard
        self._handler: RequestHandler
        self._server: ProxyServer

    @property
    def listening(self) -> Listening:
        """Where it listens; from the start on."""
        return self._listening

    @property
    def fleet(self) -> Fleet:
        return self._fleet

    @property
    def plane(self) -> DataPlane:
        return self._plane

    async def start(self, *, may_move_port: bool = False) -> None:
        """Open everything, listen, and look at the backends once.

        :param may_move_port: whether a port that is in use may be replaced by one of the next few.
        :raises StartError: it cannot listen there.
        :raises ConfigError: it may not listen there.
        :raises PluginError: a plugin's service does not start.
        """
        config = self.blueprint.config
        try:
            await self._open_store()
            self._services = await start_services(self.blueprint.contributions, self._store, self._wake)
            self._resources.push_async_callback(self._stop_services)
            batch = WriteBatch(asyncio.get_running_loop())
            self._server = ProxyServer(
                headers_s=config.timeouts.headers_seconds,
                keepalive_s=config.timeouts.keepalive_seconds,
                write_stall_s=config.timeouts.write_stall_seconds,
                batch=batch,
                max_files=file_limit(),
            )
            await self._listen(may_move=may_move_port)
            await self._start_fleet(batch)
            announce(config, self.port, self._resources)
        except BaseException:
            await self._close()
            raise
        log.info("started", host=config.server.host, port=self.port, backends=len(self._fleet.snapshot.backends))

    async def reload(self, blueprint: Blueprint) -> None:
        """Put *blueprint* in the place of the old one, at once; what is under way ends as it began.

        :raises NexusError: a plugin's service does not start, or Nexus stops; the old one stays.
        """
        async with self._reloading:
            # The new stages live by what their services fetch, so these come first, and the old ones leave last.
            services = await self._enter(blueprint)
            before = self._services
            self._use(blueprint, services)
            log.info("config_reloaded", file=blueprint.file)
            await before.aclose()

    async def _enter(self, blueprint: Blueprint) -> AsyncExitStack:
        if self.state.is_draining:
            raise NexusError("it is shutting down")
        try:
            async with asyncio.timeout(None) as self._entering:
                return await start_services(blueprint.contributions, self._store, self._wake, enter_s=ENTER_S)
        except TimeoutError as exc:
            raise NexusError("it is shutting down") from exc
        finally:
            self._entering = None

    def _use(self, blueprint: Blueprint, services: AsyncExitStack) -> None:
        blueprint.router.pipeline.follow(self.blueprint.router.pipeline)
        self._telemetry.follow(self.blueprint.router.pipeline, blueprint.router.pipeline)
        self.blueprint, self._services = blueprint, services
        self._plane.settings = self._settings(blueprint)
        self._server.write_stall_s = blueprint.config.timeouts.write_stall_seconds
        self._plane.line.resize(
            max_size=max_waiting(blueprint.config), max_wait_s=blueprint.config.queue.max_wait_seconds
        )
        limits = blueprint.config.limits
        self._plane.event_room.resize(
            max_event_bytes=limits.max_event_bytes, max_buffered_bytes=limits.max_buffered_event_bytes
        )
        self._plane.answer_room.max_bytes = limits.max_held_answer_bytes
        self._plane.upstreams.reconfigure(self._upstream_settings(blueprint), blueprint.config.timeouts)
        self._fleet.reconfigure(blueprint.fleet)
        self._handler.use_pages(self._pages(blueprint))
        self._dashboard.reloaded()
        self.state.rejected_reload = None

    def note_refused_reload(self, reason: str) -> None:
        """Note why a reload was refused."""
        self.state.rejected_reload = reason
        log.error("config_rejected", reason=reason)

    async def stop(self, *, lame_duck_s: float = 0.0, drain_s: float = 0.0) -> None:
        """Send clients elsewhere, stop listening, let answers end, cut those that do not, and close everything."""
        self.state.is_draining = self._server.is_draining = True
        if self._entering is not None and not self._entering.expired():
            self._entering.reschedule(asyncio.get_running_loop().time())
        log.info("draining", in_flight=self._plane.in_flight, lame_duck_s=lame_duck_s, drain_s=drain_s)
        if lame_duck_s:
            await asyncio.sleep(lame_duck_s)
        grace_s = min(GRACE_S, drain_s)
        await stop_listening(self._servers, settle_s=min(SETTLE_S, grace_s))
        self._server.end(grace_s)
        await self._server.ended(drain_s)
        if self._handler.exchanges:
            log.warning("exchanges_cut", count=len(self._handler.exchanges))
            for exchange in self._handler.exchanges.copy():
                exchange.shut_down()
            await self._server.ended(LAST_WORDS_S)
        await self._dashboard.stop()
        await self._server.stop(LAST_WORDS_S)
        await self._close()
        log.info("stopped")

    # parts

    async def _open_store(self) -> None:
        self._store = WatchedStore(await open_store(self.blueprint))
        self.state.store_failure = lambda: self._store.failure
        self.state.waiting = lambda: self._fleet.waiting_count
        log.info("store_opened", kind=self.blueprint.config.store.kind)
        self._resources.push_async_callback(self._store.close)

    async def _listen(self, *, may_move: bool) -> None:
        listening = self._listening = await open_port(self.blueprint, may_move=may_move)
        self._resources.callback(listening.close)
        loop = asyncio.get_running_loop()
        for sock in listening.sockets:
            server = await loop.create_server(self._server, sock=sock, backlog=BACKLOG, start_serving=False)
            self._servers.append(server)
        self.port = listening.port
        if (taken := listening.moved_from) is not None:
            wanted = self.blueprint.config.server.port
            log.warning("port_moved", wanted=wanted, port=self.port, url=listening.url, in_use_by=taken.owner)

    async def _start_fleet(self, batch: WriteBatch) -> None:
        blueprint = self.blueprint
        self._fleet = Fleet(
            blueprint.fleet,
            discoverers=guarded_discoverers(blueprint.contributions),
            own_port=self.port,
            is_own=lambda url: is_own_address(url, self.blueprint.config.server.host, self.port),
            store=self._store,
            load=load_backend_here,
        )
        line: RequestQueue[Reserved] = RequestQueue(
            max_size=max_waiting(blueprint.config), max_wait_s=blueprint.config.queue.max_wait_seconds
        )
        self._line = line
        upstreams = Upstreams(self._upstream_settings(blueprint), blueprint.config.timeouts, batch)
        self._fleet.on_settings_changed = upstreams.renew
        self._resources.callback(upstreams.close)
        owners = ResourceOwners(self._store)
        await owners.open()
        self._resources.push_async_callback(owners.close)
        self._plane = DataPlane(self._settings(blueprint), self._fleet, upstreams, line, owners)
        self._telemetry.begin(
            fleet=self._fleet,
            plane=self._plane,
            blueprint=lambda: self.blueprint,
            clients=lambda: len(self._server.connections),
            is_reload_rejected=lambda: self.state.rejected_reload is not None,
            store=self._store,
        )
        self._dashboard = Dashboard(
            fleet=self._fleet,
            plane=self._plane,
            metrics=self._telemetry.metrics,
            history=self._telemetry.history,
            timeline=self._telemetry.timeline,
            rejections=self._telemetry.rejections,
            plugins=lambda: plugin_rows(self.blueprint),
            uptime_s=lambda: self.state.uptime_s,
        )
        self._resources.push_async_callback(self._dashboard.stop)
        self._handler = RequestHandler(
            self._plane,
            self._pages(blueprint),
            self._dashboard.sockets(),
            on_refused=self._telemetry.metrics.refused,
        )
        self._server.handle, self._server.refuse_malformed = self._handler.serve, self._handler.refuse_malformed
        self._resources.push_async_callback(self._telemetry.end)
        self._fleet.on_change(self._fleet_changed)
        await self._fleet.start()
        self._resources.push_async_callback(self._fleet.stop)
        # Whoever is told that Nexus listens may send at once: let it know by then who is there.
        await self._fleet.wait_first_probes(min(FIRST_PROBES_S, blueprint.config.health_check.timeout_seconds))
        for server in self._servers:
            await server.start_serving()

    def _upstream_settings(self, blueprint: Blueprint) -> Mapping[str, UpstreamSettings]:
        """Return how each backend is reached; the configuration comes before what was added and found."""
        return ChainMap({**blueprint.upstream_settings}, self._fleet.upstream_settings)

    def _settings(self, blueprint: Blueprint) -> Settings:
        observers = self._telemetry.observers(blueprint)
        return Settings(blueprint.config, blueprint.router, blueprint.access_rules, observers)

    def _pages(self, blueprint: Blueprint) -> tuple[DescribedRoute, ...]:
        return pages(blueprint, self.state, self._fleet, self._plane, self._telemetry, self._dashboard)

    def _fleet_changed(self, snapshot: FleetSnapshot) -> None:
        self._plane.upstreams.keep_only(frozenset(snapshot.by_id))
        self._plane.line.fleet_changed()
        self._telemetry.timeline.keep_only({backend.name for backend in snapshot.backends})

    def _wake(self) -> None:
        # Services start before there is anybody who could wait.
        if self._line is not None:
            self._line.fleet_changed()

    async def _stop_services(self) -> None:
        await self._services.aclose()

    async def _close(self) -> None:
        # A second signal hurries what is under way; what was received is to reach the store all the same.
        if self._closing is None:
            self._closing = tasks.start(self._close_all(), name="close")
        await asyncio.shield(self._closing)

    async def _close_all(self) -> None:
        for server in self._servers:
            server.close()
        # Services that a reload starts or ends use what is closed here.
        async with self._reloading:
            await self._resources.aclose()


def lame_duck_of(blueprint: Blueprint) -> float:
    """Return how long to say no before not listening: a load balancer never watches a loopback address."""
    server = blueprint.config.server
    if server.lame_duck_seconds is not None:
        return server.lame_duck_seconds
    return 0.0 if is_loopback(server.host) else LAME_DUCK_S
