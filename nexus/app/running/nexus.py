"""Starts, reloads, drains and stops the proxy."""

import asyncio
import socket
import time
from collections import ChainMap
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Final

import structlog

from nexus import tasks
from nexus.admin.health import ProxyState
from nexus.admin.openapi.operation import DescribedRoute
from nexus.app.composition.blueprint import Blueprint
from nexus.app.process.accept_queue import SETTLE_S, stop_listening
from nexus.app.process.binding import BACKLOG, Listening
from nexus.app.process.file_limit import file_limit
from nexus.app.running.announcing import announce
from nexus.app.running.pages import pages, plugin_rows
from nexus.app.running.resources import OwnResources
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
from nexus.proxy.exchange.resource_owners import ResourceOwners
from nexus.proxy.upstream.backends import Upstreams
from nexus.proxy.waiting.request_queue import RequestQueue
from nexus.proxy.write_batch import WriteBatch
from nexus.routing.decision import Reserved
from nexus.store.watched import WatchedStore

log = structlog.get_logger("nexus.app")

FIRST_PROBES_S: Final = 2.0
"""How long the start waits for the first probes before it accepts connections."""
LAME_DUCK_S: Final = 5.0
GRACE_S: Final = 1.0
"""How long idle connections stay open after listening stops, for requests that are already on the network."""
CLOSE_S: Final = 2.0
"""How long aborted streams have to send their error events."""


class Nexus:
    """A running proxy; call :meth:`start` and :meth:`stop` once, :meth:`reload` any number of times."""

    def __init__(self, blueprint: Blueprint, resources: OwnResources | None = None) -> None:
        """:param resources: where store, sockets and fleet come from; None: this process's own."""
        self.blueprint = blueprint
        self._sources = resources or OwnResources()
        self.state = ProxyState(started_at=time.monotonic())
        self.port = 0
        self.is_alive = True
        """Always: where this is asked, the event loop runs."""
        self._telemetry = Telemetry(lambda: self._fleet.snapshot)
        self._servers: list[asyncio.Server] = []
        self._listening: Listening
        self._resources = AsyncExitStack()
        self._closing: asyncio.Task[None] | None = None
        self._services: AsyncExitStack
        self._reloading = asyncio.Lock()
        self._entering: asyncio.Timeout | None = None
        """Set while a reload starts services, so that a stop can interrupt it."""
        self._store: WatchedStore
        self._fleet: Fleet
        self._plane: DataPlane
        self._queue: RequestQueue[Reserved] | None = None
        self._dashboard: Dashboard
        self._handler: RequestHandler
        self._server: ProxyServer

    @property
    def listening(self) -> Listening:
        """The sockets, once started."""
        return self._listening

    @property
    def fleet(self) -> Fleet:
        return self._fleet

    @property
    def plane(self) -> DataPlane:
        return self._plane

    @property
    def is_idle(self) -> bool:
        """Whether no request is served now."""
        return self._plane.in_flight == 0

    async def start(self, *, may_move_port: bool = False) -> None:
        """Open everything, probe the backends once, and accept connections.

        :param may_move_port: whether one of the next ports may be used if the configured one is taken.
        :raises StartError: the proxy cannot listen on its address.
        :raises ConfigError: the proxy has no permission to listen on its address.
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
            self._fleet = self._sources.make_fleet(self.blueprint, self._store, self.port)
            self._plane = await self._make_plane(batch)
            self._observe()
            await self._serve()
            if self._sources.announces:
                announce(config, self.port, self._resources)
        except BaseException:
            await self._close()
            raise
        log.info("started", host=config.server.host, port=self.port, backends=len(self._fleet.snapshot.backends))

    async def reload(self, blueprint: Blueprint, *, agree: Callable[[], Awaitable[bool]] | None = None) -> bool:
        """Replace the old blueprint with *blueprint*, and return True; running requests finish under the old one.

        :param agree: awaited once nothing can fail any more; if it returns False, the old blueprint stays in force, and
            False is returned.
        :raises NexusError: a plugin's service does not start, or Nexus stops; the old blueprint stays in force.
        """
        async with self._reloading:
            # Stages depend on their services, so new services start before the switch, and old ones stop after it.
            services = await self._enter(blueprint)
            if agree is not None and not await agree():
                await services.aclose()
                return False
            before = self._services
            self._use(blueprint, services)
            log.info("config_reloaded", file=blueprint.file)
            await before.aclose()
            return True

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
        self._plane.queue.resize(
            max_size=max_waiting(blueprint.config, self._sources.sharing.processes),
            max_wait_s=blueprint.config.queue.max_wait_seconds,
            max_body_bytes=blueprint.config.queue.max_body_bytes,
        )
        limits = blueprint.config.limits
        self._plane.event_room.resize(
            max_event_bytes=limits.max_event_bytes, max_buffered_bytes=limits.max_buffered_event_bytes
        )
        self._plane.response_memory.max_bytes = limits.max_held_answer_bytes
        self._plane.upstreams.reconfigure(self._upstream_settings(blueprint), blueprint.config.timeouts)
        self._fleet.reconfigure(blueprint.fleet)
        self._handler.use_pages(self._pages(blueprint))
        self._dashboard.reloaded()
        self.state.rejected_reload = None

    def note_refused_reload(self, reason: str) -> None:
        """Record why a reload was refused; the old configuration stays in force."""
        self.state.rejected_reload = reason
        log.error("config_rejected", reason=reason)

    async def serve_at(self, sock: socket.socket) -> asyncio.Server | None:
        """Accept connections at *sock* too, until the server that is returned is closed; None: it is shutting down."""
        if self.state.is_draining:
            sock.close()
            return None
        server = await asyncio.get_running_loop().create_server(self._server, sock=sock, backlog=BACKLOG)
        self._servers = [*(each for each in self._servers if each.is_serving()), server]
        return server

    def shed(self, connections: int) -> None:
        """Close that many client connections, each after its current or next request."""
        self._server.to_shed = connections

    async def stop(self, *, lame_duck_s: float = 0.0, drain_s: float = 0.0, settle_s: float = SETTLE_S) -> None:
        """Stop in order: report unready, stop listening, finish requests, abort the rest, close everything.

        :param lame_duck_s: how long to accept connections while ``/ready`` answers 503.
        :param drain_s: how long requests may take to finish.
        :param settle_s: how long handshakes that have begun may take; 0: another process accepts them.
        """
        self.state.is_draining = self._server.is_draining = True
        if self._entering is not None and not self._entering.expired():
            self._entering.reschedule(asyncio.get_running_loop().time())
        log.info("draining", in_flight=self._plane.in_flight, lame_duck_s=lame_duck_s, drain_s=drain_s)
        if lame_duck_s:
            await asyncio.sleep(lame_duck_s)
        grace_s = min(GRACE_S, drain_s)
        await stop_listening(self._servers, settle_s=min(settle_s, grace_s))
        self._server.end(grace_s)
        await self._server.ended(drain_s)
        if self._plane.exchanges:
            log.warning("exchanges_cut", count=len(self._plane.exchanges))
            for exchange in self._plane.exchanges.copy():
                exchange.shut_down()
            await self._server.ended(CLOSE_S)
        await self._dashboard.stop()
        await self._server.stop(CLOSE_S)
        if self._sources.peers is not None:
            await self._telemetry.leave(self._sources.peers)
        await self._close()
        log.info("stopped")

    async def _open_store(self) -> None:
        self._store = await self._sources.open_store(self.blueprint)
        self.state.store_failure = lambda: self._store.failure
        self.state.has_replicas = lambda: self._store.has_replicas
        self.state.waiting = lambda: self._fleet.waiting_count
        log.info("store_opened", kind=self.blueprint.config.store.kind)
        self._resources.push_async_callback(self._store.close)

    async def _listen(self, *, may_move: bool) -> None:
        listening = self._listening = await self._sources.listen(self.blueprint, may_move=may_move)
        self._resources.callback(listening.close)
        loop = asyncio.get_running_loop()
        for sock in listening.sockets:
            server = await loop.create_server(self._server, sock=sock, backlog=BACKLOG, start_serving=False)
            self._servers.append(server)
        self.port = listening.port
        if (taken := listening.moved_from) is not None:
            wanted = self.blueprint.config.server.port
            log.warning("port_moved", wanted=wanted, port=self.port, url=listening.url, in_use_by=taken.owner)

    async def _make_plane(self, batch: WriteBatch) -> DataPlane:
        blueprint = self.blueprint
        queue: RequestQueue[Reserved] = RequestQueue(
            max_size=max_waiting(blueprint.config, self._sources.sharing.processes),
            max_wait_s=blueprint.config.queue.max_wait_seconds,
            max_body_bytes=blueprint.config.queue.max_body_bytes,
            sharing=self._sources.sharing,
        )
        self._queue = queue
        upstreams = Upstreams(self._upstream_settings(blueprint), blueprint.config.timeouts, batch)
        self._fleet.on_settings_changed = upstreams.renew
        self._resources.callback(upstreams.close)
        owners = ResourceOwners(self._store)
        await owners.open()
        self._resources.push_async_callback(owners.close)
        return DataPlane(self._settings(blueprint), self._fleet, upstreams, queue, owners)

    def _observe(self) -> None:
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
            peers=self._sources.peers,
        )
        self._resources.push_async_callback(self._dashboard.stop)
        self._resources.push_async_callback(self._telemetry.end)

    async def _serve(self) -> None:
        self._handler = RequestHandler(
            self._plane,
            self._pages(self.blueprint),
            self._dashboard.sockets(),
            on_refused=self._telemetry.metrics.refused,
        )
        self._server.handle, self._server.note_abandoned = self._handler.serve, self._handler.note_abandoned
        self._server.refuse_malformed = self._handler.refuse_malformed
        self._fleet.on_change(self._fleet_changed)
        await self._fleet.start()
        self._resources.push_async_callback(self._fleet.stop)
        sharing = await self._sources.share(self._fleet, self._store, self._plane.queue)
        self._resources.push_async_callback(sharing.aclose)
        # Clients may connect as soon as Nexus listens, so the first probes should have succeeded by then.
        await self._fleet.wait_first_probes(min(FIRST_PROBES_S, self.blueprint.config.health_check.timeout_seconds))
        for server in self._servers:
            await server.start_serving()

    def _upstream_settings(self, blueprint: Blueprint) -> Mapping[str, UpstreamSettings]:
        """Return the settings of each backend; configured ones take precedence over added and discovered ones."""
        return ChainMap({**blueprint.upstream_settings}, self._fleet.upstream_settings)

    def _settings(self, blueprint: Blueprint) -> Settings:
        observers = self._telemetry.observers(blueprint)
        return Settings(blueprint.config, blueprint.router, blueprint.access_rules, observers)

    def _pages(self, blueprint: Blueprint) -> tuple[DescribedRoute, ...]:
        peers = self._sources.peers
        return pages(blueprint, self.state, self._fleet, self._plane, self._telemetry, self._dashboard, peers)

    def _fleet_changed(self, snapshot: FleetSnapshot) -> None:
        self._plane.upstreams.keep_only(frozenset(snapshot.by_id))
        self._plane.queue.keep_only(frozenset(backend.name for backend in snapshot.backends))
        self._plane.queue.fleet_changed()
        self._telemetry.timeline.keep_only({backend.name for backend in snapshot.backends})

    def _wake(self) -> None:
        # Services start before the queue exists.
        if self._queue is not None:
            self._queue.fleet_changed()

    async def _stop_services(self) -> None:
        await self._services.aclose()

    async def _close(self) -> None:
        # Shielded: a second signal cancels the drain, but the store must still be closed properly.
        if self._closing is None:
            self._closing = tasks.start(self._close_all(), name="close")
        await asyncio.shield(self._closing)

    async def _close_all(self) -> None:
        for server in self._servers:
            server.close()
        # A reload in progress uses the resources that are closed here.
        async with self._reloading:
            await self._resources.aclose()


def lame_duck_of(blueprint: Blueprint) -> float:
    """Return how long ``/ready`` answers 503 before listening stops; on loopback no load balancer watches it."""
    server = blueprint.config.server
    if server.lame_duck_seconds is not None:
        return server.lame_duck_seconds
    return 0.0 if is_loopback(server.host) else LAME_DUCK_S
