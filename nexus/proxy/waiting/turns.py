"""Whose turn it is at one backend: the client that has used the fewest tokens of it.

This is deficit round robin with the rounds left out. A client may overdraw its share by one request, and then waits
until the others have had as much: its debt is the deficit. Counted in rounds, a turn would cost as many steps as a
long prompt has quanta; a heap of the debts finds the next client at once.
"""

from collections import deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Final, Generic, Protocol, TypeVar


class Named(Protocol):
    """A client; it is recognised by its name when it comes back."""

    @property
    def name(self) -> str: ...


C = TypeVar("C", bound=Named)

MAX_ABSENT: Final = 1024
"""Clients whose debt is remembered although none of their requests wait."""


Item = tuple[float, int, C]
"""The tokens that a client has used, a number that makes the item unique, and the client."""


class Turns(Generic[C]):
    """The clients that wait for one backend, in one priority.

    The clock is the number of tokens that a client would have used if it had waited all the time and got an equal
    share: it advances with each request by its tokens / the number of clients that wait. A client that joins starts at
    the clock, behind those that have had less, so that a stream of new clients does not hold up an old one for long.
    """

    __slots__ = ("_clock", "_debts", "_heap", "_joined", "_new", "_next")

    def __init__(self) -> None:
        self._clock = 0.0
        self._joined: dict[C, Item[C]] = {}
        """The item of each client that waits; any other item of it in the heap is outdated."""
        self._debts: dict[str, float] = {}
        """The tokens used by clients that do not wait, and have used more than their share."""
        self._heap: list[Item[C]] = []
        self._new: deque[Item[C]] = deque()
        """The items of clients without debts, which need no heap: the clock orders them."""
        self._next = 0

    def __len__(self) -> int:
        """Return how many clients wait."""
        return len(self._joined)

    def join(self, client: C) -> None:
        """Let *client*, which does not wait here yet, take turns from now on."""
        debt = self._debts.pop(client.name, 0.0) if self._debts else 0.0
        if debt > self._clock:
            self._push(client, debt)
            return
        self._next = number = self._next + 1
        item = self._joined[client] = (self._clock, number, client)
        self._new.append(item)

    def leave(self, client: C) -> None:
        """Let *client* take no more turns."""
        spent = self._joined.pop(client)[0]
        if spent > self._clock:
            if len(self._debts) >= MAX_ABSENT:
                self._debts.clear()
            self._debts[client.name] = spent
        if len(self._heap) + len(self._new) > 2 * len(self._joined) + 64:
            # In place: a search may be half way through them.
            self._heap[:] = filter(self._is_current, self._heap)
            heapify(self._heap)
            new = [item for item in self._new if self._is_current(item)]
            self._new.clear()
            self._new.extend(new)

    def charge(self, client: C, tokens: int) -> None:
        """Note that a request of *client*, which waits, was given a slot."""
        self._clock += tokens / len(self._joined)
        self._push(client, self._joined[client][0] + tokens)

    def in_turn(self) -> Iterator[C]:
        """Yield the clients, that with the fewest tokens first; what joins or is charged meanwhile is left out."""
        passed: list[Item[C]] = []
        heap, new, joined = self._heap, self._new, self._joined
        try:
            while heap or new:
                item = new.popleft() if new and (not heap or new[0] < heap[0]) else heappop(heap)
                if joined.get(item[2]) is item:
                    passed.append(item)
                    yield item[2]
        finally:
            for item in passed:
                if self._is_current(item):
                    heappush(heap, item)

    def _push(self, client: C, spent: float) -> None:
        self._next = number = self._next + 1
        item = self._joined[client] = (spent, number, client)
        heappush(self._heap, item)

    def _is_current(self, item: Item[C]) -> bool:
        return self._joined.get(item[2]) is item
