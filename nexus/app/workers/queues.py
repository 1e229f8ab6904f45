"""Lets each worker know how much waits in the queues of the others, so that limits of the queue hold for all."""

from collections.abc import Callable
from typing import Final

from nexus.fleet.clock import Later
from nexus.proxy.waiting.request_queue import RequestQueue
from nexus.proxy.waiting.sharing import Depth, Sharing
from nexus.routing.decision import Reserved
from nexus.workers.channel import Channel, ChannelError

OWN: Final = "queue.depth"
"""The topic by which a worker tells what waits there."""
OTHERS: Final = "queue.others"
"""The topic by which the parent tells what waits in all other workers."""
GATHER_S: Final = 0.025
"""How long changes gather before they are sent, at the worker and again at the parent."""


class _Gathering:
    """Calls *send* once for all changes within :data:`GATHER_S`."""

    def __init__(self, later: Later, send: Callable[[], None]) -> None:
        self._later = later
        self._send = send
        self._is_due = False

    def note(self) -> None:
        """Note a change."""
        if not self._is_due:
            self._is_due = True
            self._later(GATHER_S, self._end)

    def _end(self) -> None:
        self._is_due = False
        self._send()


class DepthReports:
    """The part of a worker: tells the parent how much waits in *queue*, and *sharing* what waits in the others.

    :param channel: to the parent, not open yet.
    """

    def __init__(self, channel: Channel, sharing: Sharing, later: Later) -> None:
        self._channel = channel
        self._told = Depth()
        self._queue: RequestQueue[Reserved] | None = None
        self._sharing = sharing
        self._gathering = _Gathering(later, self._send)
        channel.on(OTHERS, Depth, self._note_others)

    def follow(self, queue: RequestQueue[Reserved]) -> None:
        """Report the depth of *queue* from now on."""
        self._queue = queue
        self._sharing.on_change = self._gathering.note

    def _note_others(self, depth: Depth) -> None:
        self._sharing.elsewhere = depth

    def _send(self) -> None:
        if self._queue is None:
            return
        depth = Depth(len(self._queue), self._queue.line.size_bytes)
        if depth != self._told and _is_sent(self._channel, OWN, depth):
            self._told = depth


class DepthSums:
    """The part of the parent: tells each worker how much waits in all others."""

    def __init__(self, later: Later) -> None:
        self._depths: dict[Channel, Depth] = {}
        self._told: dict[Channel, Depth] = {}
        self._gathering = _Gathering(later, self._send)

    def serve(self, channel: Channel) -> None:
        """Add the worker at the other end of *channel*, which is not open yet, until it ends."""
        self._depths[channel] = self._told[channel] = Depth()
        channel.on(OWN, Depth, lambda depth: self._note(channel, depth))
        channel.on_closed(lambda: self._forget(channel))
        self._gathering.note()

    def _note(self, channel: Channel, depth: Depth) -> None:
        if channel in self._depths:
            self._depths[channel] = depth
            self._gathering.note()

    def _forget(self, channel: Channel) -> None:
        if self._depths.pop(channel, None) is not None:
            del self._told[channel]
            self._gathering.note()

    def _send(self) -> None:
        total = sum(self._depths.values(), start=Depth())
        for channel, own in self._depths.items():
            others = total - own
            if others != self._told[channel] and _is_sent(channel, OTHERS, others):
                self._told[channel] = others


def _is_sent(channel: Channel, topic: str, depth: Depth) -> bool:
    try:
        channel.send(topic, depth)
    except ChannelError:
        return False
    return True
