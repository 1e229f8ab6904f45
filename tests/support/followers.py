"""Processes that follow a fleet, all in the process of the test, each with a channel of its own."""

import contextlib
import socket
from collections.abc import AsyncIterator

from nexus.domain.backend import Backend
from nexus.domain.shared_load import Allotment, first_short, parts_for
from nexus.fleet.plan import FleetPlan
from nexus.fleet.sharing.following import FollowingFleet
from nexus.fleet.sharing.publisher import Publisher
from nexus.fleet.sharing.slot_keeper import Waiting
from nexus.workers.channel import Channel


class Follower:
    """A fleet that follows, as in a worker, and the requests that wait in its process."""

    def __init__(self, plan: FleetPlan) -> None:
        self.channel = Channel("parent")
        self.fleet = FollowingFleet(plan, self.channel)
        self.fleet.keeper.serve_queue(self.count, self.offer)
        self.waiting = 0
        self.held: list[tuple[Allotment, ...]] = []
        """The slots of each request that runs."""

    def count(self, _name: str) -> Waiting:
        return Waiting(self.waiting, (0, 1 if self.waiting else 0, 0))

    def offer(self, _name: str) -> None:
        while self.waiting and self.try_to_take():
            self.waiting -= 1

    def try_to_take(self) -> bool:
        row = self.row()
        parts = parts_for(row.load.allotments, "tiny")
        if first_short(parts) is not None:
            return False
        for part in parts:
            part.take()
        row.load.acquire()
        row.load.model("tiny").in_flight += 1
        self.held.append(parts)
        return True

    def take(self) -> None:
        """Let one more request run, or wait."""
        if not self.try_to_take():
            self.waiting += 1

    def release(self) -> None:
        """End the request that began last."""
        for part in self.held.pop():
            part.release()
        self.row().load.release()
        self.row().load.model("tiny").in_flight -= 1
        self.offer("gpu")

    def row(self, name: str = "gpu") -> Backend:
        """Return the row of the backend of that name. :raises KeyError: there is none."""
        found = {row.name: row for row in self.fleet.snapshot.backends}
        return found[name]

    def has(self, name: str) -> bool:
        """Whether the backend of that name is in its fleet."""
        return any(row.name == name for row in self.fleet.snapshot.backends)


@contextlib.asynccontextmanager
async def following(publisher: Publisher, plan: FleetPlan, count: int) -> AsyncIterator[list[Follower]]:
    """Let so many processes follow the fleet of *publisher*, which has started."""
    async with contextlib.AsyncExitStack() as stack:
        followers = []
        for number in range(count):
            follower, theirs = Follower(plan), Channel(f"worker {number}")
            publisher.serve(f"worker {number}", theirs)
            here, there = socket.socketpair()
            await theirs.open(there)
            await follower.channel.open(here)
            stack.callback(follower.channel.close)
            await follower.fleet.start()
            stack.push_async_callback(follower.fleet.stop)
            followers.append(follower)
        yield followers
