"""Wraps kinds, discoverers and stores of plugins, so that their exceptions name the plugin."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, ParamSpec, TypeVar

import msgspec

from nexus import tasks
from nexus.config.schema import StoreConfig
from nexus.containment import contained, described, is_interrupt
from nexus.domain.kinds import BackendKind, FactsLookup, ServerLookup
from nexus.domain.model import ModelFacts
from nexus.errors import PluginError
from nexus.fleet.discovery.discoverer import Discovered, Discoverer
from nexus.plugin_manager import Contributions, Plugin
from nexus.store.store import Store

P = ParamSpec("P")
T = TypeVar("T")


def guarded_kind(plugin: Plugin, kind: BackendKind) -> BackendKind:
    """Return *kind* with functions that raise nothing but ValueError."""
    read = kind.listing.decode

    def listed(answer: bytes) -> tuple[ModelFacts, ...]:
        models = tuple(read(answer))
        if not all(isinstance(facts, ModelFacts) for facts in models):
            raise TypeError("its listing returns other values than nexus.api.ModelFacts")
        return models

    listing = msgspec.structs.replace(kind.listing, decode=_reading(plugin, kind, listed))
    lookups = tuple(_guarded_lookup(plugin, kind, lookup) for lookup in kind.lookups)
    of_server = tuple(
        ServerLookup(path=lookup.path, decode=_reading(plugin, kind, lookup.decode)) for lookup in kind.server_lookups
    )
    return msgspec.structs.replace(kind, listing=listing, lookups=lookups, server_lookups=of_server)


def _guarded_lookup(plugin: Plugin, kind: BackendKind, lookup: FactsLookup) -> FactsLookup:
    body = None if lookup.body is None else _reading(plugin, kind, lookup.body)
    return msgspec.structs.replace(lookup, decode=_reading(plugin, kind, lookup.decode), body=body)


def _reading(plugin: Plugin, kind: BackendKind, read: Callable[P, T]) -> Callable[P, T]:
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(*args, **kwargs)
        except ValueError:
            raise
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            raise ValueError(f"the kind '{kind.name}' of plugin {plugin.label} failed: {described(exc)}") from exc

    return guarded


def guarded_discoverers(contributions: Contributions) -> tuple[Discoverer, ...]:
    """Return the discoverers of the plugins. :raises PluginError: one has no name."""
    return tuple(_GuardedDiscoverer(plugin, discoverer) for plugin, discoverer in contributions.discoverers())


def guarded_factory(plugin: Plugin, name: str, make: Callable[[StoreConfig], Store]) -> Callable[[StoreConfig], Store]:
    """Return *make*, which raises PluginError if it cannot make a store."""

    def guarded(config: StoreConfig) -> Store:
        with contained(f"plugin {plugin.label}: its store '{name}' cannot be made"):
            return make(config)

    return guarded


class _GuardedDiscoverer(Discoverer):
    def __init__(self, plugin: Plugin, discoverer: Any) -> None:
        with contained(f"plugin {plugin.label}: one of its discoverers has no name"):
            self.name = str(discoverer.name)  # type: ignore[misc]
            self.needs_approval = bool(getattr(discoverer, "needs_approval", False))  # type: ignore[misc]
            self.is_certain = bool(getattr(discoverer, "is_certain", False))  # type: ignore[misc]
        self._plugin = plugin
        self._discoverer = discoverer

    async def watch(self) -> AsyncGenerator[tuple[Discovered, ...], None]:
        """Yield the servers that it sees. :raises PluginError: the discoverer failed."""
        try:
            async with aclosing(self._discoverer.watch()) as looks:
                async for seen in looks:
                    yield _validated(seen)
        except BaseException as exc:
            # When Nexus stops, it closes the generator, which raises GeneratorExit here.
            if isinstance(exc, GeneratorExit) or tasks.is_from_outside(exc):
                raise
            raise PluginError(
                f"plugin {self._plugin.label}: its discoverer '{self.name}' failed: {described(exc)}"
            ) from exc


def _validated(seen: Any) -> tuple[Discovered, ...]:
    servers = tuple(seen)
    if not all(isinstance(server, Discovered) for server in servers):
        raise TypeError("it yields other values than nexus.api.Discovered")
    return servers
