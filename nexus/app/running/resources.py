"""Where a proxy gets its store, its sockets and its fleet: its own process, unless a parent has them for it."""

from contextlib import AsyncExitStack

from nexus.app.composition.blueprint import Blueprint
from nexus.app.composition.guards import guarded_discoverers
from nexus.app.composition.loading import load_backend_here
from nexus.app.composition.own_address import is_own_address
from nexus.app.process.binding import Listening
from nexus.app.running.opening import open_port, open_store
from nexus.fleet.fleet import Fleet
from nexus.fleet.sharing.lone_process import LoneProcess
from nexus.fleet.sharing.slot_keeper import SlotKeeper, Waiting
from nexus.proxy.waiting.request_queue import RequestQueue
from nexus.proxy.waiting.sharing import Sharing
from nexus.routing.decision import Reserved
from nexus.store.store import Store
from nexus.store.watched import WatchedStore
from nexus.workers.peers import Peers


class OwnResources:
    """Those of a process that is the whole proxy."""

    announces = True
    """Whether this process announces the proxy by mDNS."""
    peers: Peers | None = None
    """The other processes that serve; None: there are none."""

    def __init__(self) -> None:
        self.sharing = Sharing()
        """How limits of the queue are divided among processes."""

    async def open_store(self, blueprint: Blueprint) -> WatchedStore:
        """Return the opened store. :raises NexusError: it cannot be opened."""
        return await open_store(blueprint)

    async def listen(self, blueprint: Blueprint, *, may_move: bool) -> Listening:
        """Return the listening sockets. :raises NexusError: the proxy cannot listen on its address."""
        return await open_port(blueprint, may_move=may_move)

    def make_fleet(self, blueprint: Blueprint, store: Store, port: int) -> Fleet:
        """Return the fleet, not started.

        :param port: the actual port of this proxy, which is never its own backend.
        """
        # Its host cannot change in a reload. The fleet must not hold the blueprint, which a reload replaces.
        host = blueprint.config.server.host
        return Fleet(
            blueprint.fleet,
            discoverers=guarded_discoverers(blueprint.contributions),
            own_port=port,
            is_own=lambda url: is_own_address(url, host, port),
            store=store,
            load=load_backend_here,
        )

    async def share(self, fleet: Fleet, store: WatchedStore, queue: RequestQueue[Reserved]) -> AsyncExitStack:
        """Share *fleet*, which has started, with other processes, and let requests in *queue* get slots.

        :returns: closing it ends that.
        """
        async with AsyncExitStack() as ending:
            if store.shared is not None:
                process = LoneProcess(fleet, store)
                give_slots(process.keeper, queue)
                await process.start()
                ending.push_async_callback(process.stop)
            return ending.pop_all()


def give_slots(keeper: SlotKeeper, queue: RequestQueue[Reserved]) -> None:
    """Let requests that wait in *queue* get the slots of *keeper*."""
    keeper.serve_queue(lambda name: Waiting(*queue.line.waiting_for(name)), queue.slot_freed)
