"""Serves with several workers as if they were one proxy: has the port, the store and the fleet for all of them."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

import structlog

from nexus import tasks
from nexus.admin.metrics.page import TOPIC as METRICS
from nexus.admin.stats import TOTALS
from nexus.app.composition.blueprint import Blueprint
from nexus.app.composition.loading import Choice
from nexus.app.process.accept_queue import SETTLE_S
from nexus.app.process.binding import Listening
from nexus.app.running.announcing import announce
from nexus.app.running.nexus import FIRST_PROBES_S
from nexus.app.running.opening import open_port
from nexus.app.running.resources import OwnResources
from nexus.app.workers.child import Child
from nexus.app.workers.messages import Configuration, Finish, Orders, Prepare, Refused, Stop, configuration_of
from nexus.app.workers.queues import DepthSums
from nexus.app.workers.sockets import sockets_for
from nexus.app.workers.supervisor import Supervisor
from nexus.errors import NexusError
from nexus.fleet.clock import call_later
from nexus.fleet.fleet import Fleet
from nexus.fleet.sharing.publisher import Publisher
from nexus.observability.logging import logs
from nexus.observability.logging.writing import make_lock
from nexus.observability.metrics import merging, totals
from nexus.store.channel import serve_store
from nexus.store.watched import WatchedStore
from nexus.workers.channel import ChannelError, PeerFailed
from nexus.workers.peers import Switchboard

log = structlog.get_logger("nexus.app")

PREPARE_S: Final = 100.0
"""How long the workers may take to prepare a reload, which starts the services of plugins."""


class Parent:
    """The parent of *count* workers, with the interface of :class:`~nexus.app.running.nexus.Nexus`.

    :param give_up: called with the reason when no worker can be kept running.
    """

    def __init__(
        self, blueprint: Blueprint, choice: Choice, count: int, *, give_up: Callable[[NexusError], None]
    ) -> None:
        self.blueprint = blueprint
        self.is_idle = True
        """Always: this process serves nothing."""
        self._choice = choice
        self._count = count
        self._configuration = configuration_of(choice, blueprint.loaded, 0)
        self._listening: Listening
        self._sockets: tuple[tuple[socket.socket, ...], ...] = ()
        self._log_lock = -1
        self._resources = AsyncExitStack()
        self._own = OwnResources()
        self._store: WatchedStore
        self._fleet: Fleet
        self._publisher: Publisher
        self._switchboard = Switchboard({METRICS: merging.fold, TOTALS: totals.fold})
        self._depths = DepthSums(call_later)
        self._rejected_reload: str | None = None
        self._supervisor = Supervisor(
            count,
            self._launch,
            on_ready=self._greet,
            on_silence=self._note_silence,
            drain_s=lambda: self.blueprint.config.server.drain_timeout_seconds,
            give_up=give_up,
        )

    @property
    def listening(self) -> Listening:
        return self._listening

    @property
    def port(self) -> int:
        return self._listening.port

    @property
    def is_alive(self) -> bool:
        """Whether a worker serves and answers, or starts."""
        return self._supervisor.is_alive

    async def start(self, *, may_move_port: bool = False) -> None:
        """Open everything, probe the backends once, and start the workers.

        :raises NexusError: what one process would raise, or no worker can be started.
        """
        try:
            self._log_lock = make_lock()
            logs.share(self._log_lock)
            self._store = await self._own.open_store(self.blueprint)
            log.info("store_opened", kind=self.blueprint.config.store.kind)
            self._resources.push_async_callback(self._store.close)
            await self._listen(may_move=may_move_port)
            await self._publish_fleet()
            await self._supervisor.start()
            announce(self.blueprint.config, self.port, self._resources)
        except BaseException:
            await self._supervisor.stop(Stop())
            await self._close()
            raise
        server = self.blueprint.config.server
        backends = len(self._fleet.snapshot.backends)
        log.info("started", host=server.host, port=self.port, backends=backends, workers=self._count)

    async def reload(self, blueprint: Blueprint) -> None:
        """Let all workers switch to *blueprint*, or none.

        :raises NexusError: a plugin's service does not start in a worker; the old blueprint stays in force.
        """
        configuration = configuration_of(self._choice, blueprint.loaded, self._configuration.generation + 1)
        workers = self._supervisor.ready
        try:
            await asyncio.gather(*(self._prepare(child, configuration) for child in workers))
        except NexusError:
            self._finish(workers, is_used=False)
            raise
        self.blueprint, self._configuration = blueprint, configuration
        self._rejected_reload = None
        self._finish(workers, is_used=True)
        self._supervisor.let_leave_at_once()
        self._supervisor.start_anew()
        self._fleet.reconfigure(blueprint.fleet)
        for child in set(self._supervisor.ready) - set(workers):
            # It became ready meanwhile, with the old configuration.
            self._greet(child)
        log.info("config_reloaded", file=blueprint.file)

    def note_refused_reload(self, reason: str) -> None:
        """Record why a reload was refused; the old configuration stays in force."""
        self._rejected_reload = reason
        log.error("config_rejected", reason=reason)
        self._supervisor.tell_all("reload.refused", Refused(reason))

    async def stop(self, *, lame_duck_s: float = 0.0, drain_s: float = 0.0) -> None:
        """Stop all workers at the same time, each as one process would."""
        log.info("draining", workers=len(self._supervisor.ready), lame_duck_s=lame_duck_s, drain_s=drain_s)
        closing = tasks.start(self._stop_listening(lame_duck_s + 2 * SETTLE_S), name="stop listening")
        await self._supervisor.stop(Stop(lame_duck_s=lame_duck_s, drain_s=drain_s))
        await tasks.stop(closing)
        await self._close()
        log.info("stopped")

    async def _listen(self, *, may_move: bool) -> None:
        # Where a predecessor still serves the same port, clients would wait at a socket until its worker is ready.
        is_port_shared = self.blueprint.config.server.reuse_port
        listening = self._listening = await open_port(self.blueprint, may_move=may_move, only_bind=is_port_shared)
        self._resources.callback(listening.close)
        self._sockets = sockets_for(listening, self._count)
        self._resources.callback(self._close_sockets)
        if (taken := listening.moved_from) is not None:
            wanted = self.blueprint.config.server.port
            log.warning("port_moved", wanted=wanted, port=self.port, url=listening.url, in_use_by=taken.owner)

    async def _publish_fleet(self) -> None:
        fleet = self._fleet = self._own.make_fleet(self.blueprint, self._store, self.port)
        self._publisher = Publisher(fleet, self._store)
        await fleet.start()
        self._resources.push_async_callback(fleet.stop)
        await self._publisher.start()
        self._resources.push_async_callback(self._publisher.stop)
        await fleet.wait_first_probes(min(FIRST_PROBES_S, self.blueprint.config.health_check.timeout_seconds))

    async def _stop_listening(self, delay_s: float) -> None:
        """Close the sockets here once the workers have: what waits at them is reset when the last process closes."""
        await asyncio.sleep(delay_s)
        self._close_sockets()

    def _close_sockets(self) -> None:
        for group in self._sockets:
            for sock in group:
                sock.close()

    async def _launch(self, index: int) -> Child:
        groups = {number: tuple(map(socket.socket.fileno, group)) for number, group in enumerate(self._sockets, 1)}
        descriptors = groups[index]
        orders = Orders(
            configuration=self._configuration,
            sockets=descriptors,
            others={number: group for number, group in groups.items() if group != descriptors},
            url=self._listening.url,
            index=index,
            workers=self._count,
            log_lock=self._log_lock,
        )
        files = {self._log_lock}.union(*groups.values())
        return await Child.launch(index, orders, on_channel=self._join, files=files)

    def _join(self, child: Child) -> None:
        """Let *child*, whose channel is not open yet, use the store and follow the fleet."""
        serve_store(self._store, child.channel)
        self._switchboard.serve(child.channel, str(child.index))
        self._depths.serve(child.channel)
        self._publisher.serve(_follower_name(child), child.channel)

    def _note_silence(self, child: Child, *, is_silent: bool) -> None:
        if is_silent:
            self._publisher.set_aside(_follower_name(child))
        else:
            self._publisher.bring_back(_follower_name(child))

    def _greet(self, child: Child) -> None:
        """Bring a worker that has just begun to serve up to date."""
        self._switchboard.add(child.channel)
        if self._rejected_reload is not None:
            child.tell("reload.refused", Refused(self._rejected_reload))
        if child.generation != self._configuration.generation:
            tasks.start(self._update(child), name=f"reload worker {child.index}")

    async def _update(self, child: Child) -> None:
        """Let a worker that was started with an older configuration switch to the one in force."""
        try:
            await self._prepare(child, self._configuration)
        except NexusError as exc:
            # Its successor starts with the configuration in force.
            log.error("worker_killed", worker=child.index, pid=child.pid, reason=str(exc))  # noqa: TRY400 - no defect
            child.kill()
        else:
            self._finish((child,), is_used=True)

    async def _prepare(self, child: Child, configuration: Configuration) -> None:
        """:raises NexusError: the worker cannot use *configuration*."""
        try:
            await child.channel.ask("reload.prepare", Prepare(configuration), type(None), timeout_s=PREPARE_S)
        except PeerFailed as exc:
            raise NexusError(exc.text) from exc
        except ChannelError:
            if child.is_ready:
                raise
            # It has ended, and its successor starts with whatever is in force then.

    def _finish(self, workers: tuple[Child, ...], *, is_used: bool) -> None:
        for child in workers:
            child.tell("reload.finish", Finish(is_used))
            if is_used:
                child.generation = self._configuration.generation

    async def _close(self) -> None:
        await self._switchboard.stop()
        await self._resources.aclose()


def _follower_name(child: Child) -> str:
    return f"{child.channel.name} (process {child.pid})"
