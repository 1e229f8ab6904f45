"""What a worker has of its parent instead of its own."""

import socket
from contextlib import AsyncExitStack

from nexus.app.composition.blueprint import Blueprint
from nexus.app.process.binding import Listening
from nexus.app.running.resources import OwnResources, give_slots
from nexus.app.workers.messages import Orders
from nexus.app.workers.queues import DepthReports
from nexus.fleet.clock import call_later
from nexus.fleet.fleet import Fleet
from nexus.fleet.sharing.following import FollowingFleet
from nexus.proxy.waiting.request_queue import RequestQueue
from nexus.proxy.waiting.sharing import Sharing
from nexus.routing.decision import Reserved
from nexus.store.channel import ChannelStore
from nexus.store.store import Store
from nexus.store.watched import WatchedStore
from nexus.workers.channel import Channel
from nexus.workers.peers import Peers


class InheritedResources(OwnResources):
    """The sockets that the parent has opened, its store and its fleet.

    :param channel: to the parent, not open yet.
    """

    announces = False

    def __init__(self, orders: Orders, channel: Channel, blueprint: Blueprint) -> None:
        super().__init__()
        self.peers = Peers(channel)
        self._orders = orders
        self._store = ChannelStore(channel)
        self._fleet = FollowingFleet(blueprint.fleet, channel)
        self.sharing = Sharing(orders.workers, orders.index)
        self._depths = DepthReports(channel, self.sharing, call_later)

    async def open_store(self, blueprint: Blueprint) -> WatchedStore:
        del blueprint
        await self._store.open()
        # The parent logs its failures, once for all workers.
        return WatchedStore(self._store, is_logged=False)

    async def listen(self, blueprint: Blueprint, *, may_move: bool) -> Listening:
        del blueprint, may_move
        return Listening(tuple(socket.socket(fileno=number) for number in self._orders.sockets), self._orders.url)

    def make_fleet(self, blueprint: Blueprint, store: Store, port: int) -> Fleet:
        del blueprint, store, port
        return self._fleet

    async def share(self, fleet: Fleet, store: WatchedStore, queue: RequestQueue[Reserved]) -> AsyncExitStack:
        del fleet, store
        give_slots(self._fleet.keeper, queue)
        self._depths.follow(queue)
        return AsyncExitStack()
