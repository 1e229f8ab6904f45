"""Where a proxy gets its store, its sockets and its fleet: its own process, unless a parent has them for it."""

from nexus.app.composition.blueprint import Blueprint
from nexus.app.composition.guards import guarded_discoverers
from nexus.app.composition.loading import load_backend_here
from nexus.app.composition.own_address import is_own_address
from nexus.app.process.binding import Listening
from nexus.app.running.opening import open_port, open_store
from nexus.fleet.fleet import Fleet
from nexus.proxy.waiting.request_queue import RequestQueue
from nexus.routing.decision import Reserved
from nexus.store.store import Store


class OwnResources:
    """Those of a process that is the whole proxy."""

    announces = True
    """Whether this process announces the proxy by mDNS."""

    async def open_store(self, blueprint: Blueprint) -> Store:
        """Return the opened store. :raises NexusError: it cannot be opened."""
        return await open_store(blueprint)

    async def listen(self, blueprint: Blueprint, *, may_move: bool) -> Listening:
        """Return the listening sockets. :raises NexusError: the proxy cannot listen on its address."""
        return await open_port(blueprint, may_move=may_move)

    def make_fleet(self, blueprint: Blueprint, store: Store, port: int) -> Fleet:
        """Return the fleet, not started.

        :param port: the actual port of this proxy, which is never its own backend.
        """
        return Fleet(
            blueprint.fleet,
            discoverers=guarded_discoverers(blueprint.contributions),
            own_port=port,
            is_own=lambda url: is_own_address(url, blueprint.config.server.host, port),
            store=store,
            load=load_backend_here,
        )

    def serve_queue(self, queue: RequestQueue[Reserved]) -> None:
        """Take note of the requests that wait: a single process need not ask for slots."""
