"""Which client has the most requests waiting."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Generic, TypeVar

C = TypeVar("C")


class Crowd(Generic[C]):
    """Clients by the number of their requests; each step takes constant time."""

    def __init__(self) -> None:
        self._by_count: defaultdict[int, dict[C, None]] = defaultdict(dict)
        self._most = 0

    def change(self, client: C, before: int, after: int) -> None:
        """Note that *client* has *after* requests now, one more or one less than *before*."""
        if before:
            clients = self._by_count[before]
            del clients[client]
            if not clients:
                del self._by_count[before]
        if after:
            self._by_count[after][client] = None
        if after > self._most or (before == self._most and before not in self._by_count):
            self._most = after

    @property
    def most(self) -> int:
        """The number of requests of the client that has the most."""
        return self._most

    def biggest(self) -> C:
        """Return the client with the most requests; there must be one."""
        return next(iter(self._by_count[self._most]))

    def largest(self) -> Iterator[C]:
        """Yield the clients, those with the most requests first."""
        for number in sorted(self._by_count, reverse=True):
            yield from self._by_count[number]
