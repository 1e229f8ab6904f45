"""Kinds, finders and stores of plugins, guarded: whatever one raises is told as a failure of its plugin."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, ParamSpec, TypeVar

import msgspec

from nexus import tasks
from nexus.config.schema import StoreConfig
from nexus.containment import contained, is_interrupt, told
from nexus.domain.kinds import BackendKind, FactsLookup, ServerLookup
from nexus.domain.model import ModelFacts
from nexus.errors import PluginError
from nexus.fleet.discovery.discoverer import Discovered, Discoverer
from nexus.plugin_manager import Contributions, Plugin
from nexus.store.store import Store

P = ParamSpec("P")
T = TypeVar("T")


def guarded_kind(plugin: Plugin, kind: BackendKind) -> BackendKind:
    """Return *kind*, whose functions raise a ValueError whenever they cannot read an answer."""
    read = kind.listing.decode

    def listed(answer: bytes) -> tuple[ModelFacts, ...]:
        models = tuple(read(answer))
        if not all(isinstance(facts, ModelFacts) for facts in models):
            raise TypeError("its listing gives something else than nexus.api.ModelFacts")
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
            raise ValueError(f"the kind '{kind.name}' of plugin {plugin.label} failed: {told(exc)}") from exc

    return guarded


def guarded_discoverers(contributions: Contributions) -> tuple[Discoverer, ...]:
    """Return the finders of the plugins. :raises PluginError: one has no name."""
    return tuple(_GuardedDiscoverer(plugin, discoverer) for plugin, discoverer in contributions.discoverers())


def guarded_factory(plugin: Plugin, name: str, make: Callable[[StoreConfig], Store]) -> Callable[[StoreConfig], Store]:
    """Return *make*, which raises a PluginError whenever it cannot make a store."""

    def guarded(config: StoreConfig) -> Store:
        with contained(f"plugin {plugin.label}: its store '{name}' cannot be made"):
            return make(config)

    return guarded


class _GuardedDiscoverer(Discoverer):
    def __init__(self, plugin: Plugin, discoverer: Any) -> None:
        with contained(f"plugin {plugin.label}: a finder of it has no name"):
            self.name = str(discoverer.name)  # type: ignore[misc]
            self.needs_approval = bool(getattr(discoverer, "needs_approval", False))  # type: ignore[misc]
            self.is_certain = bool(getattr(discoverer, "is_certain", False))  # type: ignore[misc]
        self._plugin = plugin
        self._discoverer = discoverer

    async def watch(self) -> AsyncGenerator[tuple[Discovered, ...], None]:
        """Yield what it sees. :raises PluginError: whatever it raises."""
        try:
            async with aclosing(self._discoverer.watch()) as looks:
                async for seen in looks:
                    yield _sound(seen)
        except BaseException as exc:
            # Closed at the end of Nexus, the generator gets a GeneratorExit where it yields.
            if isinstance(exc, GeneratorExit) or tasks.is_from_outside(exc):
                raise
            raise PluginError(f"plugin {self._plugin.label}: its finder '{self.name}' failed: {told(exc)}") from exc


def _sound(seen: Any) -> tuple[Discovered, ...]:
    servers = tuple(seen)
    if not all(isinstance(server, Discovered) for server in servers):
        raise TypeError("it yields something else than nexus.api.Discovered")
    return servers
