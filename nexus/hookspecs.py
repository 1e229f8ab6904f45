"""The hooks of plugins: plural nouns contribute objects at start-up, past participles observe."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import pluggy

PROJECT: Final = "nexus"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def nexus_config() -> Any:
    """Return the type of your ``[plugins.<name>]`` table, a subclass of ``nexus.api.PluginConfig``.

    Called before all other hooks, at the start and again at each reload. Without it, your plugin takes no table and the
    other hooks get ``config=None``. An exception here stops Nexus at start-up and names your plugin; at a reload it
    keeps the old configuration.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_reconcilers(config: Any, state: Any) -> Iterable[Any]:
    """Contribute stages (``nexus.api.Reconciler``) to the routing pipeline.

    Called once, after all configuration is valid and before the first request, and again at each reload. Return an
    empty list if your table switches you off. An exception here stops Nexus at start-up and names your plugin; at a
    reload it keeps the old pipeline. It may also be called for a configuration that is only inspected, so side effects
    belong into :func:`nexus_services`.

    :param config: your table, decoded into the type that :func:`nexus_config` returned.
    :param state: a dict of your own, empty at first, that lives as long as the process: the same one at each reload and
        for each of your hooks. What your stages have learnt, and what they share with your services, belongs here.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_discoverers(config: Any) -> Iterable[Any]:
    """Contribute finders of backends (``nexus.api.Discoverer``).

    Called once, at the start, and by ``nexus-proxy check``; a reload does not change the finders. An exception here
    stops Nexus. An exception that a finder raises later is logged, and the finder is restarted after increasing delays.

    :param config: your table, decoded.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_backend_kinds(config: Any) -> Iterable[Any]:
    """Contribute kinds of backends (``nexus.api.BackendKind``), each with a unique name.

    Called at the start and again at each reload. An exception here stops Nexus at start-up; at a reload it keeps the
    old configuration. An answer that its functions cannot decode counts as a failed probe.

    :param config: your table, decoded.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_stores(config: Any) -> Iterable[tuple[str, Any]]:
    """Contribute stores: pairs of a name for ``[store] kind`` and a function from ``StoreConfig`` to a store.

    Called at the start and again at each reload, but a store is only opened at the start. An exception here, or in its
    ``open``, stops Nexus at start-up; raise ``nexus.api.StoreError`` with a text for the operator. A store may also be
    created for a configuration that is only inspected, so side effects belong into its ``open``.

    :param config: your table, decoded.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_configured(config: Any, store: Any) -> None:
    """Reject a configuration in which your table is valid by itself, but does not fit the rest.

    Called by ``nexus-proxy check``, at the start and again at each reload, before anything is started. Raise
    ``nexus.api.ConfigError`` with what is wrong, the ``key`` of your table and a ``hint`` of what to do: that ends a
    check or a start with code 78, and keeps the old configuration at a reload, as it does in any hook that is called
    for a configuration. Any other exception names your plugin.

    :param config: your table, decoded.
    :param store: the configured ``nexus.api.Store``. It is not open, so only its attributes, such as
        ``survives_restart``, can be used. At a reload the open store stays, and :func:`nexus_services` gets that one.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_services(config: Any, store: Any, state: Any, wake: Any) -> Iterable[AbstractAsyncContextManager[Any]]:
    """Contribute background work as async context managers, entered before the first request and left at the end.

    Called at the start and at each reload; then the new services are entered before the old ones are left, in reverse
    order. An exception on entering stops Nexus at start-up and keeps the old configuration at a reload; an exception on
    leaving is logged. A service owns the tasks that it starts: ``nexus.api.tasks`` logs their failures and restarts
    them.

    A service that is not entered within 30 s keeps the old configuration at a reload. One that is not left within 5 s
    is cancelled, and abandoned if it then continues for a second; the log names your plugin. Each is entered and left
    in a task of its own. The store is open until all are left.

    :param config: your table, decoded.
    :param store: the opened ``nexus.api.Store``; prefix your keys with your plugin's name.
    :param state: as for :func:`nexus_reconcilers`.
    :param wake: a function without arguments that makes queued requests try again; call it when what a stage refused
        them for (``nexus.api.Refusal.is_saturation``) has become available.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_routes(config: Any, state: Any) -> Iterable[Any]:
    """Contribute admin pages (``nexus.api.AdminRoute``), all GET, all below ``/admin/<plugin>/``.

    Called at the start and again at each reload. An exception here stops Nexus at start-up; at a reload it keeps the
    old configuration. An exception of a page is answered with 500 and logged.

    :param config: your table, decoded.
    :param state: as for :func:`nexus_reconcilers`.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_commands(config: Any) -> Iterable[Any]:
    """Contribute subcommands (``click.Command``) of ``nexus-proxy``.

    Called when ``nexus-proxy`` is given a word that is no built-in command. An exception here ends it with code 1.

    :param config: your table if the command line names a configuration, else your defaults.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_observers(config: Any, state: Any) -> Iterable[Any]:
    """Contribute functions that are called with each request's end (``nexus.api.ExchangeOutcome``), as
    :func:`nexus_exchange_finished` is.

    Called at the start and at each reload, after :func:`nexus_reconcilers`, when your stages know whether they only
    observe. A request is reported to the functions of the configuration under which it began. Return an empty list if
    there is nothing to observe: then no request costs your plugin anything.

    :param config: your table, decoded.
    :param state: as for :func:`nexus_reconcilers`.

    .. versionadded:: 0.1
    """


@hookspec
def nexus_exchange_finished(config: Any, outcome: Any, state: Any) -> None:
    """Observe how a request ended (``nexus.api.ExchangeOutcome``): finished, client left, backend broke, rejected, …

    Called once for each request, on the event loop, so it must be quick: queue slow work. An exception is logged with
    your plugin's name and never reaches the client.

    :param config: your table, decoded.
    :param outcome: frozen.
    :param state: as for :func:`nexus_reconcilers`.

    .. versionadded:: 0.1
    """
