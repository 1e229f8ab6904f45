"""The order in which requests wait: by priority, then in turn between clients, then by arrival; it does no I/O."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from itertools import islice
from typing import Final, Generic, TypeVar

from nexus.domain.priorities import PRIORITIES
from nexus.proxy.waiting.claim import Claim
from nexus.proxy.waiting.crowd import Crowd
from nexus.proxy.waiting.turns import Turns

RANK_COUNT: Final = len(PRIORITIES)
OLDEST_EVERY: Final = 8
"""Of so many slots of a backend, one goes to the oldest request of the priority whose turn it is, so that a request
is served even if new clients, each with a fair claim, keep coming faster than slots become free."""


class Group:
    """Requests of one kind that wait for the same backends."""

    __slots__ = ("backends", "kind")

    def __init__(self, backends: frozenset[str], kind: Hashable) -> None:
        self.backends = backends
        self.kind = kind


class Waiter:
    """A request that waits; the queue sets ``client``, ``group`` and ``arrival``."""

    __slots__ = ("arrival", "claim", "client", "group", "since")

    client: "Client"
    group: Group
    arrival: int

    def __init__(self, claim: Claim, since: float) -> None:
        self.claim = claim
        self.since = since


W = TypeVar("W", bound=Waiter)


class Client:
    """The waiting requests of one client, of one priority."""

    __slots__ = ("backends", "groups", "name", "waiters")

    def __init__(self, name: str) -> None:
        self.name = name
        # Ordered dicts and not dicts, in which finding the first entry after many removals takes linear time.
        self.waiters: OrderedDict[Waiter, None] = OrderedDict()
        self.groups: dict[Group, OrderedDict[Waiter, None]] = {}
        self.backends: dict[str, int] = {}
        """How many of the groups wait for each backend."""


class Place:
    """One backend that requests wait for: the turns of each priority, and how many slots each was given."""

    __slots__ = ("given", "turns")

    def __init__(self) -> None:
        self.turns: tuple[Turns[Client], ...] = tuple(Turns() for _ in PRIORITIES)
        self.given = [0] * RANK_COUNT


class Search(Generic[W]):
    """What is known of one search for a request that can use a slot."""

    __slots__ = ("blocked", "tried")

    def __init__(self) -> None:
        self.blocked: set[Group] = set()
        """Groups none of whose requests can use it."""
        self.tried: set[W] = set()
        """Single requests that cannot use it."""


class FairQueue(Generic[W]):
    """Every step takes a time that does not depend on how many requests wait."""

    def __init__(self) -> None:
        self.by_rank: Final = [0] * RANK_COUNT
        """How many requests of each priority wait."""
        self.bytes_by_rank: Final = [0] * RANK_COUNT
        """The size of their bodies."""
        self._arrivals = 0
        self._clients: Final = tuple[dict[str, Client], ...]({} for _ in PRIORITIES)
        self._crowds: Final = tuple[Crowd[Client], ...](Crowd() for _ in PRIORITIES)
        self._groups: dict[tuple[frozenset[str], Hashable], tuple[Group, list[int]]] = {}
        """Each group, and how many requests are in it."""
        self._sets: dict[frozenset[str], tuple[OrderedDict[W, None], ...]] = {}
        """The requests that wait for exactly these backends, by priority, each in the order of arrival."""
        self.places: Final[dict[str, Place]] = {}
        """The backends that requests wait for."""
        self._models: dict[str, OrderedDict[W, None]] = {}

    def __len__(self) -> int:
        return sum(self.by_rank)

    @property
    def size_bytes(self) -> int:
        """The size of the bodies of all requests that wait."""
        return sum(self.bytes_by_rank)

    def push(self, waiter: W, backends: frozenset[str]) -> None:
        """Let *waiter* wait for a slot of any of *backends*."""
        claim = waiter.claim
        self._arrivals += 1
        waiter.arrival = self._arrivals
        clients = self._clients[claim.rank]
        client = clients.get(claim.client)
        if client is None:
            client = clients[claim.client] = Client(claim.client)
        waiter.client = client
        count = len(client.waiters)
        client.waiters[waiter] = None
        self._crowds[claim.rank].change(client, count, count + 1)
        self._models.setdefault(claim.model, OrderedDict())[waiter] = None
        self.by_rank[claim.rank] += 1
        self.bytes_by_rank[claim.rank] += claim.size_bytes
        self._join(waiter, backends)

    def remove(self, waiter: W) -> bool:
        """Let *waiter* wait no longer; return whether it did."""
        claim, client = waiter.claim, waiter.client
        if waiter not in client.waiters:
            return False
        self._leave(waiter)
        count = len(client.waiters)
        del client.waiters[waiter]
        self._crowds[claim.rank].change(client, count, count - 1)
        if count == 1:
            del self._clients[claim.rank][claim.client]
        model = self._models[claim.model]
        del model[waiter]
        if not model:
            del self._models[claim.model]
        self.by_rank[claim.rank] -= 1
        self.bytes_by_rank[claim.rank] -= claim.size_bytes
        return True

    def move(self, waiter: W, backends: frozenset[str]) -> None:
        """Let *waiter* wait for other backends than before; its place among its client's requests stays the same."""
        self._leave(waiter)
        self._join(waiter, backends)

    def charge(self, waiter: W, backend: str) -> None:
        """Note that *waiter*, which still waits, was given a slot of *backend*."""
        if backend in waiter.group.backends:
            claim, place = waiter.claim, self.places[backend]
            place.turns[claim.rank].charge(waiter.client, max(1, claim.tokens))
            place.given[claim.rank] += 1

    def in_turn(self, backend: str, search: Search[W]) -> Iterator[W]:
        """Yield the next request of each client that waits for *backend*, in the order in which they are served.

        Those that *search* rules out, also meanwhile, are passed over.
        """
        place = self.places.get(backend)
        if place is None:
            return
        for rank, turns in enumerate(place.turns):
            if len(turns) > 1 and place.given[rank] % OLDEST_EVERY == OLDEST_EVERY - 1:
                oldest = self._oldest(backend, rank)
                if oldest.group not in search.blocked and oldest not in search.tried:
                    yield oldest
            if not len(turns):
                continue
            for client in turns.in_turn():
                if len(client.groups) > 1 or search.tried:
                    yield from _next_of(client, backend, search)
                    continue
                # The same, faster, for the usual case.
                ((group, fifo),) = client.groups.items()
                if group not in search.blocked:
                    yield next(iter(fifo))  # type: ignore[misc]

    def all_in_turn(self) -> list[W]:
        """Return all requests: by priority, and the clients of one priority in turn."""
        found: list[W] = []
        for clients in self._clients:
            rows = [iter(client.waiters) for client in clients.values()]
            while rows:
                left = []
                for row in rows:
                    for waiter in row:
                        found.append(waiter)  # type: ignore[arg-type]
                        left.append(row)
                        break
                rows = left
        return found

    def to_shed(self, claim: Claim) -> W | None:
        """Return the request that has to leave a full queue for one with *claim*; None: that one has to.

        It is of the lowest priority and there, of the client with the most requests, the newest. For one of the same
        priority, only a client that has at least two more requests than the newcomer's client has to give way.
        """
        for rank in range(RANK_COUNT - 1, claim.rank - 1, -1):
            crowd = self._crowds[rank]
            if not crowd.most:
                continue
            own = self._clients[rank].get(claim.client) if rank == claim.rank else None
            if rank == claim.rank and crowd.most < 2 + (0 if own is None else len(own.waiters)):
                continue
            return next(reversed(crowd.biggest().waiters))  # type: ignore[return-value]
        return None

    def ahead_of(self, claim: Claim, backends: frozenset[str]) -> int:
        """Return about how many requests will be served before one with *claim* that begins to wait now.

        Those of higher priorities, and of the same priority as many of each client as the own one has.
        """
        higher = same = 0
        for wanted, waiters in self._sets.items():
            if not wanted.isdisjoint(backends):
                higher += sum(map(len, waiters[: claim.rank]))
                same += len(waiters[claim.rank])
        clients = self._clients[claim.rank]
        own = clients.get(claim.client)
        rounds = 1 + (0 if own is None else len(own.waiters))
        return higher + min(same, rounds * len(clients))

    @property
    def sets(self) -> Mapping[frozenset[str], tuple[OrderedDict[W, None], ...]]:
        """The requests that wait for exactly these backends, by priority, each in the order of arrival."""
        return self._sets

    @property
    def models(self) -> Mapping[str, OrderedDict[W, None]]:
        """The requests for each model, oldest first."""
        return self._models

    def waiting_for(self, backend: str) -> tuple[int, tuple[int, ...]]:
        """Return how many requests wait for *backend*, and how many clients they belong to, of each priority."""
        place = self.places.get(backend)
        if place is None:
            return 0, (0,) * RANK_COUNT
        requests = sum(sum(map(len, found)) for wanted, found in self._sets.items() if backend in wanted)
        return requests, tuple(len(turns) for turns in place.turns)

    def largest_clients(self, most: int) -> list[tuple[int, Client]]:
        """Return the clients with the most requests of one priority, at most so many, each with the rank."""
        found = [(rank, client) for rank, crowd in enumerate(self._crowds) for client in islice(crowd.largest(), most)]
        return sorted(found, key=lambda row: -len(row[1].waiters))[:most]

    def _oldest(self, backend: str, rank: int) -> W:
        """Return the request of this priority that has waited longest for *backend*; there must be one."""
        firsts = (next(iter(found[rank])) for wanted, found in self._sets.items() if backend in wanted and found[rank])
        return min(firsts, key=lambda waiter: waiter.arrival)

    def _join(self, waiter: W, backends: frozenset[str]) -> None:
        claim, client = waiter.claim, waiter.client
        found = self._groups.get((backends, claim.kind))
        if found is None:
            found = self._groups[backends, claim.kind] = Group(backends, claim.kind), [0]
        waiter.group, size = found
        size[0] += 1
        waiters = self._sets.get(backends)
        if waiters is None:
            waiters = self._sets[backends] = tuple(OrderedDict() for _ in PRIORITIES)
        waiters[claim.rank][waiter] = None
        fifo = client.groups.get(waiter.group)
        if fifo is None:
            fifo = client.groups[waiter.group] = OrderedDict()
            for backend in backends:
                groups = client.backends.get(backend, 0)
                client.backends[backend] = groups + 1
                if groups:
                    continue
                place = self.places.get(backend)
                if place is None:
                    place = self.places[backend] = Place()
                place.turns[claim.rank].join(client)
        fifo[waiter] = None

    def _leave(self, waiter: W) -> None:
        claim, client, group = waiter.claim, waiter.client, waiter.group
        _, size = self._groups[group.backends, group.kind]
        size[0] -= 1
        if not size[0]:
            del self._groups[group.backends, group.kind]
        waiters = self._sets[group.backends]
        del waiters[claim.rank][waiter]
        if not any(waiters):
            del self._sets[group.backends]
        fifo = client.groups[group]
        del fifo[waiter]
        if fifo:
            return
        del client.groups[group]
        for backend in group.backends:
            client.backends[backend] -= 1
            if client.backends[backend]:
                continue
            del client.backends[backend]
            turns = self.places[backend].turns
            turns[claim.rank].leave(client)
            if not any(turns):
                del self.places[backend]


def _next_of(client: Client, backend: str, search: Search[W]) -> Iterator[W]:
    """Yield the first request of *client* in each group that waits for *backend*, those that came first first."""
    groups = client.groups
    heads = [next(iter(fifo)) for group, fifo in groups.items() if backend in group.backends]
    if len(heads) > 1:
        heads.sort(key=lambda waiter: waiter.arrival)
    for head in heads:
        group, tried = head.group, search.tried
        if group in search.blocked:
            continue
        if head in tried:
            head = next((waiter for waiter in groups[group] if waiter not in tried), head)  # noqa: PLW2901 - the next
        if head not in tried:
            yield head  # type: ignore[misc]
