"""Serves until a signal says otherwise: SIGHUP reloads, SIGTERM drains, SIGINT drains and, said twice, ends at once."""

import asyncio
import gc
import platform
import signal
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Final

import structlog

from nexus import __version__, tasks
from nexus.app.composition.blueprint import Blueprint, build_blueprint, file_name, load_plugins
from nexus.app.composition.own_address import own_address_warnings
from nexus.app.process import event_loop, interpreter, memory
from nexus.app.process.binding import Listening
from nexus.app.process.file_limit import raise_file_limit
from nexus.app.process.state_file import StateFile
from nexus.app.process.systemd import READY, STOPPING, notify
from nexus.app.running.nexus import Nexus, lame_duck_of
from nexus.app.running.opening import may_move_port
from nexus.config.loading import LoadedConfig
from nexus.config.schema import Config
from nexus.errors import NexusError
from nexus.observability.logging import logs
from nexus.plugin_manager import PluginManager

log = structlog.get_logger("nexus.app")

FIXED_KEYS: Final = (
    *("server.host", "server.port", "server.reuse_port", "store", "otel", "discovery.announce"),
    *("timeouts.headers_seconds", "timeouts.keepalive_seconds"),
)
"""What is opened or set up once, at the start; besides, plugins are loaded once."""

HURRIED_DRAIN_S: Final = 5.0
"""What is left of the drain time after a second SIGTERM; after a second SIGINT, nothing is."""


def serve(
    loaded: LoadedConfig,
    *,
    plugin_files: tuple[Path, ...] = (),
    reload: Callable[[], LoadedConfig],
    state: StateFile | None = None,
    on_port_moved: Callable[[int, Listening], None] | None = None,
) -> None:
    """Run Nexus until it is told to stop.

    :param reload: loads the configuration anew, in the way in which *loaded* was.
    :param state: the file that says where it listens, for as long as it does.
    :param on_port_moved: called with the configured port and what is listened on instead, where the two differ.
    :raises NexusError: it cannot be built, or cannot start.
    """
    raise_file_limit()
    interpreter.shorten_turns()
    memory.bound_arenas()
    log.info("starting", version=__version__, python=platform.python_version(), file=file_name(loaded))
    plugins = load_plugins(loaded, plugin_files)
    _tell_of(plugins)
    blueprint = build_blueprint(loaded, plugins)
    _warn(blueprint)
    event_loop.run(_Service(blueprint, reload, state, on_port_moved).run(), plugins.plugins)


def _tell_of(plugins: PluginManager) -> None:
    for plugin in plugins.plugins:
        log.info("plugin_loaded", plugin=plugin.name, distribution=plugin.distribution, version=plugin.version)
    for candidate in plugins.not_loaded:
        log.info("plugin_not_loaded", plugin=candidate.name, distribution=candidate.origin, version=candidate.version)


def _warn(blueprint: Blueprint) -> None:
    for warning in blueprint.warnings:
        log.warning("config_warning", reason=warning)


class _Service:
    def __init__(
        self,
        blueprint: Blueprint,
        reload: Callable[[], LoadedConfig],
        state: StateFile | None,
        on_port_moved: Callable[[int, Listening], None] | None,
    ) -> None:
        self._nexus = Nexus(blueprint)
        self._reload = reload
        self._state = state
        self._on_port_moved = on_port_moved
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._is_term = False
        self._reloading = asyncio.Lock()
        self._is_reload_waiting = False
        self._reloads: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Timeout | None = None
        """While it starts: it need not get to the end of that before it stops."""

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        if not await self._start():
            log.info("stopped")
            return
        _settle_memory()
        if may_move_port(self._nexus.blueprint):
            for warning in own_address_warnings(self._nexus.blueprint.config, self._nexus.port):
                log.warning("config_warning", reason=warning)
        if self._on_port_moved is not None and self._nexus.listening.moved_from is not None:
            self._on_port_moved(self._nexus.blueprint.config.server.port, self._nexus.listening)
        trimming = tasks.start(memory.give_back(lambda: self._nexus.plane.in_flight == 0), name="memory")
        try:
            await self._write_state()
            notify(READY)
            await self._stop.wait()
            notify(STOPPING)
            await tasks.stop(trimming)
            await self._drain()
        finally:
            # A reload under way may be about to write the file.
            await asyncio.gather(*self._reloads, return_exceptions=True)
            if self._state is not None:
                self._state.remove()

    async def _start(self) -> bool:
        """Start, and return whether that came to its end before a signal to stop."""
        may_move = may_move_port(self._nexus.blueprint)
        try:
            # A reload has its turn afterwards: there is nothing yet that it could renew.
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

    def _terminate(self) -> None:
        self._is_term = True
        self._end()

    def _interrupt(self) -> None:
        self._is_term = False
        self._end()

    def _end(self) -> None:
        if self._stop.is_set():
            log.warning("drain_hurried")
            self._hurry.set()
        elif self._starting is not None:
            self._starting.reschedule(asyncio.get_running_loop().time())
        self._stop.set()

    def _hang_up(self) -> None:
        if self._stop.is_set():
            log.warning("reload_ignored", reason="shutting down")
            return
        if self._reloading.locked():
            log.info("reload_waiting")
        if self._is_reload_waiting:
            # That one will read what is written now.
            return
        self._is_reload_waiting = True
        reload = tasks.start(self._reload_in_turn(), name="reload")
        self._reloads.add(reload)
        reload.add_done_callback(self._reloads.discard)

    async def _reload_in_turn(self) -> None:
        # Two signals in a row must not overtake each other: what was written last is to be in force.
        async with self._reloading:
            self._is_reload_waiting = False
            await self._reload_once()

    async def _reload_once(self) -> None:
        nexus = self._nexus
        try:
            loaded = await asyncio.to_thread(self._reload)
            plugins = nexus.blueprint.plugins
            has_same_plugins = plugins.are_chosen(
                loaded.config.plugin_loading, loaded.config.plugins, loaded.provenance
            )
            blueprint = build_blueprint(loaded, plugins)
            before = nexus.blueprint.config
            await nexus.reload(blueprint)
            _warn(blueprint)
        except NexusError as exc:
            if self._stop.is_set():
                log.warning("reload_ignored", reason="shutting down")
            else:
                nexus.note_refused_reload(str(exc))
            return
        logs.configure(loaded.config.logging)
        # Whatever clears temporary folders may have removed the old one.
        await self._write_state()
        if waiting := _keys_that_wait(before, loaded.config, has_same_plugins=has_same_plugins):
            log.warning("reload_needs_restart", keys=waiting)


def _keys_that_wait(before: Config, after: Config, *, has_same_plugins: bool) -> list[str]:
    """Return the keys whose new values only a restart brings into force."""
    changed = [key for key in FIXED_KEYS if attrgetter(key)(before) != attrgetter(key)(after)]
    return changed if has_same_plugins else ["plugin_loading", *changed]


def _settle_memory() -> None:
    """Keep the collector off what start-up made, which stays for ever, and from running every few requests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
