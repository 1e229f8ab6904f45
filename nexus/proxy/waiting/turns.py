"""Whose turn it is at one backend: the client that has used the fewest tokens of it.

This is deficit round robin with the rounds left out. A client may overdraw its share by one request, and then waits
until the others have had as much: its debt is the deficit. Counted in rounds, a turn would cost as many steps as a
long prompt has quanta; a heap of the debts finds the next client at once.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, Generic, TypeVar

C = TypeVar("C")

MAX_ABSENT: Final = 1024
"""Clients whose debt is remembered although none of their requests wait."""


class Turns(Generic[C]):
    """The clients that wait for one backend, in one priority.

    The clock is the number of tokens that a client would have used if it had waited all the time and got an equal
    share: it advances with each request by its tokens / the number of clients that wait. A client that joins starts at
    the clock, behind those that have had less, so that no stream of new clients can starve an old one.
    """

    def __init__(self) -> None:
        self._clock = 0.0
        self._spent: dict[C, float] = {}
        """The tokens used by each client that waits, or has used more than its share."""
        self._joined: dict[C, int] = {}
        """How often each waiting client has joined; it waits until it has left as often."""
        self._heap: list[tuple[float, int, C]] = []
        """By tokens used; an entry is outdated once the client has left or has used more."""
        self._entries: dict[C, int] = {}
        """The number of the one entry of each waiting client that is not outdated."""
        self._order = count()

    def __len__(self) -> int:
        """Return how many clients wait."""
        return len(self._joined)

    def join(self, client: C) -> None:
        """Let *client* take turns from now on."""
        times = self._joined.get(client, 0)
        self._joined[client] = times + 1
        if not times:
            self._push(client, max(self._clock, self._spent.get(client, 0.0)))

    def leave(self, client: C) -> None:
        """Undo one :meth:`join`."""
        times = self._joined[client] - 1
        if times:
            self._joined[client] = times
            return
        del self._joined[client], self._entries[client]
        if self._spent[client] <= self._clock:
            del self._spent[client]
        if len(self._heap) > 2 * len(self._joined) + 64:
            # In place: a search may be half way through it.
            self._heap[:] = filter(self._is_current, self._heap)
            heapify(self._heap)
        if len(self._spent) > 2 * len(self._joined) + MAX_ABSENT:
            self._spent = {client: spent for client, spent in self._spent.items() if client in self._joined}

    def charge(self, client: C, tokens: int) -> None:
        """Note that a request of *client*, which waits, was given a slot."""
        self._clock += tokens / len(self._joined)
        self._push(client, self._spent[client] + tokens)

    def in_turn(self) -> Iterator[C]:
        """Yield the clients, that with the fewest tokens first; what joins or is charged meanwhile is left out."""
        passed: list[tuple[float, int, C]] = []
        try:
            while self._heap:
                entry = heappop(self._heap)
                if self._is_current(entry):
                    passed.append(entry)
                    yield entry[2]
        finally:
            for entry in passed:
                if self._is_current(entry):
                    heappush(self._heap, entry)

    def _push(self, client: C, spent: float) -> None:
        self._spent[client] = spent
        number = self._entries[client] = next(self._order)
        heappush(self._heap, (spent, number, client))

    def _is_current(self, entry: tuple[float, int, C]) -> bool:
        return self._entries.get(entry[2]) == entry[1]
