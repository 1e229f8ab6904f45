"""Collects what the plugins contribute under one configuration, and checks it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import cached_property
from typing import Any, Final

import click
import msgspec

from nexus.config.faults import OF_THE_TABLE, Fault
from nexus.config.schema import PluginConfig, PolicyKeys
from nexus.containment import safe_text
from nexus.domain.kinds import BackendKind
from nexus.domain.routes import AdminRoute
from nexus.errors import ConfigError, PluginError
from nexus.plugin_manager.observer import Observer, function_of
from nexus.plugin_manager.plugin import Plugin
from nexus.plugin_manager.tables import config_type_of, decode_table

CORE_PAGES: Final = frozenset({"backends", "feed-ticket", "overview", "plugins", "queue"})
"""The first path segments below ``/admin/`` that Nexus itself uses."""


class Contributions:
    """What the plugins contribute, each item with its plugin.

    The contributions of an old and a new configuration share only the plugins' code and each plugin's state.
    """

    def __init__(
        self,
        plugins: tuple[Plugin, ...],
        tables: Mapping[str, Mapping[str, Any]],
        error: Callable[[Fault], ConfigError],
    ) -> None:
        """:param error: adds file and line to a fault."""
        self.plugins = plugins
        self._error = error
        types = {plugin.name: config_type_of(plugin) for plugin in plugins}
        self._types = {name: config_type for name, config_type in types.items() if config_type is not None}
        try:
            self._configs = {p.name: decode_table(p, types[p.name], tables.get(p.name)) for p in plugins}
        except Fault as fault:
            raise error(fault) from fault

    def config_of(self, plugin: str) -> PluginConfig | None:
        """Return the decoded table of *plugin*, by name; None when it takes none."""
        return self._configs[plugin]

    def takes_table(self, plugin: str) -> bool:
        """Whether *plugin*, by name, takes a ``[plugins.<name>]`` table."""
        return plugin in self._types

    def policy_keys(self) -> dict[str, type[PolicyKeys]]:
        """Return the types of the keys that plugins add to ``[[routing.policies]]``, by plugin."""
        keys = {name: getattr(config_type, "policy_keys", None) for name, config_type in self._types.items()}
        return {name: type_ for name, type_ in keys.items() if type_ is not None}

    def reconcilers(self) -> tuple[tuple[Plugin, object], ...]:
        """Return the stages, whose types :mod:`nexus.routing.stage.order` checks."""
        return self._reconcilers

    def stages_of(self, plugin: str) -> tuple[str, ...]:
        """Return the names of the stages of *plugin*, by name, for listings."""
        return tuple(str(getattr(stage, "name", "?")) for owner, stage in self._reconcilers if owner.name == plugin)

    def discoverers(self) -> tuple[tuple[Plugin, Any], ...]:
        return tuple(self._collect("nexus_discoverers"))

    def backend_kinds(self) -> tuple[tuple[Plugin, BackendKind], ...]:
        kinds = tuple(self._collect("nexus_backend_kinds"))
        for plugin, kind in kinds:
            if not isinstance(kind, BackendKind):
                raise _wrong(plugin, "nexus_backend_kinds", "nexus.api.BackendKind", kind)
        _refuse_same_names("backend kind", [(plugin, kind.name) for plugin, kind in kinds])
        return kinds

    def stores(self) -> tuple[tuple[Plugin, str, Callable[[Any], Any]], ...]:
        """Return each store's plugin, name for ``[store] kind``, and function from ``StoreConfig`` to a store."""
        stores = []
        for plugin, item in self._collect("nexus_stores"):
            match item:
                case (str() as name, factory) if callable(factory):
                    stores.append((plugin, name, factory))
                case _:
                    raise _wrong(plugin, "nexus_stores", "(name, function)", item)
        _refuse_same_names("store", [(plugin, name) for plugin, name, _ in stores])
        return tuple(stores)

    def check(self, store: Any) -> None:
        """Call each plugin's ``nexus_configured``.

        :param store: the configured store, not opened.
        :raises ConfigError: a plugin rejects the configuration.
        """
        for plugin in self.plugins:
            with self._located_errors(plugin):
                plugin.call("nexus_configured", config=self._configs[plugin.name], store=store)

    def services(
        self, store: Any, wake: Callable[[], None]
    ) -> tuple[tuple[Plugin, AbstractAsyncContextManager[Any]], ...]:
        """Return the background services, to be entered in this order and left in reverse.

        :param wake: makes queued requests try again.
        """
        services = tuple(self._collect("nexus_services", store=store, wake=wake))
        for plugin, service in services:
            if not isinstance(service, AbstractAsyncContextManager):
                raise _wrong(plugin, "nexus_services", "an async context manager", service)
        return services

    def routes(self) -> tuple[tuple[Plugin, AdminRoute], ...]:
        """Return the admin pages, each with its full path below ``/admin/<plugin>``."""
        return self._routes

    @cached_property
    def _routes(self) -> tuple[tuple[Plugin, AdminRoute], ...]:
        routes = []
        for plugin, route in self._collect("nexus_routes"):
            if not isinstance(route, AdminRoute) or not route.path.startswith("/"):
                raise _wrong(plugin, "nexus_routes", "nexus.api.AdminRoute with a path that begins with '/'", route)
            if plugin.name in CORE_PAGES:
                raise PluginError(f"plugin {plugin.label} cannot have pages: /admin/{plugin.name} is Nexus's own")
            whole = f"/admin/{plugin.name}{route.path}".rstrip("/")
            routes.append((plugin, msgspec.structs.replace(route, path=whole)))
        _refuse_same_names("admin page", [(plugin, route.path) for plugin, route in routes])
        return tuple(routes)

    def commands(self) -> tuple[tuple[Plugin, click.Command], ...]:
        commands = tuple(self._collect("nexus_commands"))
        for plugin, command in commands:
            if not isinstance(command, click.Command) or not command.name:
                raise _wrong(plugin, "nexus_commands", "click.Command with a name", command)
        _refuse_same_names("command", [(plugin, str(command.name)) for plugin, command in commands])
        return commands

    def exchange_observers(self) -> tuple[Observer, ...]:
        """Return plain functions of one outcome, which never raise."""
        contributed = list(self._collect("nexus_observers"))
        for plugin, observe in contributed:
            if not callable(observe):
                raise _wrong(plugin, "nexus_observers", "functions", observe)
        return tuple(
            Observer(plugin, observe)
            for plugin in self.plugins
            for observe in (
                *(observe for owner, observe in contributed if owner is plugin),
                *(
                    function_of(implementation, config=self._configs[plugin.name], state=plugin.state)
                    for implementation in plugin.hooks.get("nexus_exchange_finished", ())
                ),
            )
        )

    @cached_property
    def _reconcilers(self) -> tuple[tuple[Plugin, object], ...]:
        # Created once, so that listings, the pipeline and services use the same objects.
        return tuple(self._collect("nexus_reconcilers"))

    def _collect(self, hook: str, **offered: Any) -> Iterator[tuple[Plugin, Any]]:
        for plugin in self.plugins:
            with self._located_errors(plugin):
                items = plugin.collect(hook, config=self._configs[plugin.name], state=plugin.state, **offered)
            for item in items:
                yield plugin, item

    @contextmanager
    def _located_errors(self, plugin: Plugin) -> Iterator[None]:
        """Add file and line to a ``ConfigError`` of *plugin*."""
        try:
            yield
        except ConfigError as exc:
            path = "plugins", plugin.name, exc.key or OF_THE_TABLE
            raise self._error(Fault(path, str(exc), exc.hint)) from exc


def _wrong(plugin: Plugin, hook: str, expected: str, got: object) -> PluginError:
    return PluginError(f"plugin {plugin.label}: {hook} must give {expected}, not {safe_text(got, repr)}")


def _refuse_same_names(what: str, named: list[tuple[Plugin, str]]) -> None:
    owners: dict[str, Plugin] = {}
    for plugin, name in named:
        if name in owners:
            both = f"plugins '{owners[name].name}' and '{plugin.name}' both provide"
            raise PluginError(f"{both} a {what} named '{name}'; disable one of them")
        owners[name] = plugin
