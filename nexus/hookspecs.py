"""Every hook of Nexus. Plural nouns contribute objects at start-up; past participles observe."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import pluggy

PROJECT: Final = "nexus"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def nexus_config() -> Any:
    """Give the type of your ``[plugins.<name>]`` table, a subclass of ``nexus.api.PluginConfig``.

    Called once, first of all. Without it, your plugin takes no table and the other hooks get ``config=None``.
    An exception here stops Nexus at start-up and names your plugin.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_reconcilers(config: Any, state: Any) -> Iterable[Any]:
    """Contribute stages (``nexus.api.Reconciler``) to the routing pipeline.

    Called once, after all configuration is valid and before the first request, and again at each reload. Return an
    empty list if your table switches you off. An exception here stops Nexus at start-up and names your plugin; at a
    reload it keeps the old pipeline. It may also be called for a configuration that is only looked at, so whatever acts
    belongs into :func:`nexus_services`.

    :param config: your table, decoded into the type that :func:`nexus_config` gave.
    :param state: a dict of your own, empty at first, that lives as long as the process: the same one at each reload and
        for each of your hooks. What your stages have learnt, and what they share with your services, belongs here.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_discoverers(config: Any) -> Iterable[Any]:
    """Contribute finders of backends (``nexus.api.Discoverer``).

    :param config: your table, decoded.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_backend_kinds(config: Any) -> Iterable[Any]:
    """Contribute kinds of backends (``nexus.api.BackendKind``), each with a name that no other row has.

    :param config: your table, decoded.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_stores(config: Any) -> Iterable[tuple[str, Any]]:
    """Contribute stores: pairs of a name for ``[store] kind`` and a function from ``StoreConfig`` to a store.

    :param config: your table, decoded.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_services(config: Any, store: Any, state: Any, wake: Any) -> Iterable[AbstractAsyncContextManager[Any]]:
    """Contribute background work as async context managers, entered before the first request and left at the end.

    At a reload the new ones are entered before the old ones are left.

    :param config: your table, decoded.
    :param store: the opened ``nexus.api.Store``; prefix your keys with your plugin's name.
    :param state: as for :func:`nexus_reconcilers`.
    :param wake: a function without arguments that lets requests that wait for a slot try again; for a stage that
        refused them for want of something which is there now (``nexus.api.Refusal.is_saturation``).

    .. versionadded:: 0.1
    """


@hookspec
def nexus_routes(config: Any, state: Any) -> Iterable[Any]:
    """Contribute admin pages (``nexus.api.AdminRoute``), all GET, all below ``/admin/<plugin>/``.

    :param config: your table, decoded.
    :param state: as for :func:`nexus_reconcilers`.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_commands(config: Any) -> Iterable[Any]:
    """Contribute subcommands (``click.Command``) of ``nexus-proxy``.

    :param config: your table when the command line names a configuration, else your defaults.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_exchange_finished(config: Any, outcome: Any, state: Any) -> None:
    """Observe how a request ended (``nexus.api.ExchangeOutcome``): finished, client left, backend broke, rejected, …

    Called once for each request, on the event loop, so it must be quick: count, and queue what is slow. An exception is
    logged with your plugin's name and never reaches the client.

    :param config: your table, decoded.
    :param outcome: frozen.
    :param state: as for :func:`nexus_reconcilers`.

    .. versionadded:: 0.1
    """
