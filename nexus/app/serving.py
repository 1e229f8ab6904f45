"""Serves until a signal: SIGHUP reloads, SIGTERM and SIGINT drain, a second SIGINT stops at once."""

import asyncio
import platform
import signal
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Final

import structlog

from nexus import __version__, tasks
from nexus.app.composition.blueprint import Blueprint, build_blueprint, file_name, load_plugins
from nexus.app.composition.loading import Choice
from nexus.app.composition.own_address import own_address_warnings
from nexus.app.process import event_loop, interpreter, memory
from nexus.app.process.binding import Listening
from nexus.app.process.cores import wanted_workers
from nexus.app.process.file_limit import raise_file_limit
from nexus.app.process.state_file import StateFile
from nexus.app.process.systemd import READY, STOPPING, feed_watchdog, notify, reloaded, reloading, watchdog_s
from nexus.app.running.nexus import Nexus, lame_duck_of
from nexus.app.running.opening import may_move_port
from nexus.app.workers.parent import Parent
from nexus.config.loading import LoadedConfig
from nexus.config.schema import Config
from nexus.errors import NexusError
from nexus.observability.logging import logs
from nexus.plugin_manager import PluginManager

log = structlog.get_logger("nexus.app")

FIXED_KEYS: Final = (
    *("server.host", "server.port", "server.reuse_port", "server.workers", "store", "otel", "discovery.announce"),
    *("timeouts.headers_seconds", "timeouts.keepalive_seconds"),
)
"""Keys that take effect only at a start; so does the choice of plugins."""

HURRIED_DRAIN_S: Final = 5.0
"""How long a drain may still take after a second SIGTERM; after a second SIGINT it ends at once."""


def serve(
    loaded: LoadedConfig,
    *,
    choice: Choice,
    state: StateFile | None = None,
    on_port_moved: Callable[[int, Listening], None] | None = None,
) -> None:
    """Run Nexus until a signal stops it.

    :param choice: has loaded *loaded*, and loads the configuration again.
    :param state: the file that tells commands where the proxy listens.
    :param on_port_moved: called with the configured port and the sockets if another port is used.
    :raises NexusError: the proxy cannot be built or started.
    """
    raise_file_limit()
    interpreter.shorten_switch_interval()
    memory.bound_arenas()
    log.info("starting", version=__version__, python=platform.python_version(), file=file_name(loaded))
    plugins = load_plugins(loaded, choice.plugin_files)
    _log_plugins(plugins)
    blueprint = build_blueprint(loaded, plugins)
    _log_warnings(blueprint)
    event_loop.run(_Serving(blueprint, choice, state, on_port_moved).run(), plugins.plugins)


def _log_plugins(plugins: PluginManager) -> None:
    for plugin in plugins.plugins:
        log.info("plugin_loaded", plugin=plugin.name, distribution=plugin.distribution, version=plugin.version)
    for candidate in plugins.not_loaded:
        log.info("plugin_not_loaded", plugin=candidate.name, distribution=candidate.origin, version=candidate.version)


def _log_warnings(blueprint: Blueprint) -> None:
    for warning in blueprint.warnings:
        log.warning("config_warning", reason=warning)


class _Serving:
    def __init__(
        self,
        blueprint: Blueprint,
        choice: Choice,
        state: StateFile | None,
        on_port_moved: Callable[[int, Listening], None] | None,
    ) -> None:
        workers = wanted_workers(blueprint.config.server)
        self._nexus = Nexus(blueprint) if workers == 1 else Parent(blueprint, choice, workers, give_up=self._give_up)
        self._choice = choice
        self._failure: NexusError | None = None
        """Why the workers cannot be kept running."""
        self._state = state
        self._on_port_moved = on_port_moved
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._is_term = False
        self._reloading = asyncio.Lock()
        self._is_reload_waiting = False
        self._reloads: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Timeout | None = None
        """Set during the start, so that a signal can interrupt it."""

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._on_sighup)
        loop.add_signal_handler(signal.SIGTERM, self._on_sigterm)
        loop.add_signal_handler(signal.SIGINT, self._on_sigint)
        if not await self._start():
            log.info("stopped")
            return
        interpreter.tune_collector()
        if may_move_port(self._nexus.blueprint):
            for warning in own_address_warnings(self._nexus.blueprint.config, self._nexus.port):
                log.warning("config_warning", reason=warning)
        if self._on_port_moved is not None and self._nexus.listening.moved_from is not None:
            self._on_port_moved(self._nexus.blueprint.config.server.port, self._nexus.listening)
        trimming = tasks.start(memory.give_back(lambda: self._nexus.is_idle), name="memory")
        try:
            await self._write_state()
            notify(READY)
            if (limit_s := watchdog_s()) is not None:
                tasks.keep_running(partial(feed_watchdog, limit_s, lambda: self._nexus.is_alive), name="watchdog")
            await self._stop.wait()
            notify(STOPPING)
            await tasks.stop(trimming)
            await self._drain()
        finally:
            # A running reload may be about to write the file.
            await asyncio.gather(*self._reloads, return_exceptions=True)
            if self._state is not None:
                self._state.remove()
        if self._failure is not None:
            raise self._failure

    async def _start(self) -> bool:
        """Start, and return whether that finished before a signal to stop."""
        may_move = may_move_port(self._nexus.blueprint)
        try:
            # A reload waits for the start to finish.
            async with self._reloading, asyncio.timeout(None) as self._starting:
                await self._nexus.start(may_move_port=may_move)
        except TimeoutError:
            if not self._stop.is_set():
                raise
            return False
        finally:
            self._starting = None
        return True

    async def _write_state(self) -> None:
        if self._state is not None:
            await asyncio.to_thread(self._state.write, self._nexus.blueprint.loaded, self._nexus.port)

    async def _drain(self) -> None:
        blueprint = self._nexus.blueprint
        stopping = tasks.start(
            self._nexus.stop(
                lame_duck_s=lame_duck_of(blueprint) if self._is_term else 0.0,
                drain_s=blueprint.config.server.drain_timeout_seconds,
            ),
            name="drain",
        )
        hurrying = tasks.start(self._hurry.wait(), name="hurry")
        await asyncio.wait({stopping, hurrying}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            await tasks.stop(stopping)
            await self._nexus.stop(drain_s=HURRIED_DRAIN_S if self._is_term else 0.0)
        await tasks.stop(hurrying)

    def _give_up(self, failure: NexusError) -> None:
        self._failure = failure
        self._stop.set()

    def _on_sigterm(self) -> None:
        self._is_term = True
        self._request_stop()

    def _on_sigint(self) -> None:
        self._is_term = False
        self._request_stop()

    def _request_stop(self) -> None:
        if self._stop.is_set():
            log.warning("drain_hurried")
            self._hurry.set()
        elif self._starting is not None:
            self._starting.reschedule(asyncio.get_running_loop().time())
        self._stop.set()

    def _on_sighup(self) -> None:
        if self._stop.is_set():
            log.warning("reload_ignored", reason="shutting down")
            return
        if self._reloading.locked():
            log.info("reload_waiting")
        if self._is_reload_waiting:
            # The waiting reload will read the current file.
            return
        self._is_reload_waiting = True
        reload = tasks.start(self._reload_in_turn(), name="reload")
        self._reloads.add(reload)
        reload.add_done_callback(self._reloads.discard)

    async def _reload_in_turn(self) -> None:
        # Reloads run one at a time, so that the last version of the file wins.
        async with self._reloading:
            self._is_reload_waiting = False
            await self._reload_once()

    async def _reload_once(self) -> None:
        nexus = self._nexus
        notify(reloading())
        try:
            loaded = await asyncio.to_thread(self._choice.load)
            plugins = nexus.blueprint.plugins
            has_same_plugins = plugins.are_chosen(
                loaded.config.plugin_loading, loaded.config.plugins, loaded.provenance
            )
            blueprint = build_blueprint(loaded, plugins)
            before = nexus.blueprint.config
            await nexus.reload(blueprint)
            _log_warnings(blueprint)
        except NexusError as exc:
            if self._stop.is_set():
                log.warning("reload_ignored", reason="shutting down")
            else:
                nexus.note_refused_reload(str(exc))
                notify(reloaded(refused=str(exc)))
            return
        logs.configure(loaded.config.logging)
        # The system may have deleted the old file with other temporary files.
        await self._write_state()
        notify(reloaded())
        if keys := _keys_needing_restart(before, loaded.config, has_same_plugins=has_same_plugins):
            log.warning("reload_needs_restart", keys=keys)


def _keys_needing_restart(before: Config, after: Config, *, has_same_plugins: bool) -> list[str]:
    """Return the changed keys that take effect only after a restart."""
    changed = [key for key in FIXED_KEYS if attrgetter(key)(before) != attrgetter(key)(after)]
    return changed if has_same_plugins else ["plugin_loading", *changed]
