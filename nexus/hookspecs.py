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

    Called first of all, at the start and again at each reload. Without it, your plugin takes no table and the other
    hooks get ``config=None``. An exception here stops Nexus at start-up and names your plugin; at a reload it keeps
    the old configuration.

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

    Called once, at the start, and by ``nexus-proxy check``; a reload does not change who looks. An exception here stops
    Nexus. What a finder raises later is logged, and it is asked anew, a little later each time.

    :param config: your table, decoded.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_backend_kinds(config: Any) -> Iterable[Any]:
    """Contribute kinds of backends (``nexus.api.BackendKind``), each with a name that no other row has.

    Called at the start and again at each reload. An exception here stops Nexus at start-up; at a reload it keeps the
    old configuration. An answer that its functions cannot read counts as a failed probe.

    :param config: your table, decoded.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_stores(config: Any) -> Iterable[tuple[str, Any]]:
    """Contribute stores: pairs of a name for ``[store] kind`` and a function from ``StoreConfig`` to a store.

    Called at the start and again at each reload, but only at the start a store is opened. An exception here, or in its
    ``open``, stops Nexus at start-up; raise ``nexus.api.StoreError`` with what the operator should know. A store may
    also be made for a configuration that is only looked at, so whatever acts belongs into its ``open``.

    :param config: your table, decoded.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_configured(config: Any, store: Any) -> None:
    """Object to a configuration in which your table is right by itself, and does not fit what is around it.

    Called by ``nexus-proxy check``, at the start and again at each reload, before anything is started. Raise
    ``nexus.api.ConfigError`` with what is wrong, the ``key`` of your table and a ``hint`` of what to do: that ends a
    check or a start with code 78, and keeps the old configuration at a reload, as it does in any hook that is called
    for a configuration. Any other exception names your plugin.

    :param config: your table, decoded.
    :param store: the ``nexus.api.Store`` that the configuration asks for. It is not open: only what it declares, such
        as ``survives_restart``, is of use. At a reload the one that is open stays, and :func:`nexus_services` gets it.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_services(config: Any, store: Any, state: Any, wake: Any) -> Iterable[AbstractAsyncContextManager[Any]]:
    """Contribute background work as async context managers, entered before the first request and left at the end.

    Called at the start and at each reload; then the new ones are entered before the old ones are left, in reverse
    order. An exception while one is entered stops Nexus at start-up and keeps the old configuration at a reload; one
    while it is left is logged. Tasks that it starts belong to it: ``nexus.api.tasks`` names, reports and restarts them.

    One that is not entered after 30 s keeps the old configuration at a reload. One that is not left after 5 s is
    cancelled, and one that goes on all the same for a second is abandoned; the log names your plugin. Each is entered
    and left in a task of its own. The store is open until all are left.

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

    Called at the start and again at each reload. An exception here stops Nexus at start-up; at a reload it keeps the
    old configuration. What a page raises is answered with 500 and logged.

    :param config: your table, decoded.
    :param state: as for :func:`nexus_reconcilers`.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_commands(config: Any) -> Iterable[Any]:
    """Contribute subcommands (``click.Command``) of ``nexus-proxy``.

    Called when ``nexus-proxy`` is given a word that is no command of its own. An exception here ends it with code 1.

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
