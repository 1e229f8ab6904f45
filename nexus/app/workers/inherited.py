"""What a worker has of its parent instead of its own."""

import socket

from nexus.app.composition.blueprint import Blueprint
from nexus.app.process.binding import Listening
from nexus.app.running.resources import OwnResources
from nexus.app.workers.messages import Orders


class InheritedResources(OwnResources):
    """The sockets that the parent has opened."""

    announces = False

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    async def listen(self, blueprint: Blueprint, *, may_move: bool) -> Listening:
        del blueprint, may_move
        return Listening(tuple(socket.socket(fileno=number) for number in self._orders.sockets), self._orders.url)
