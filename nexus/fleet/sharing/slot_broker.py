"""Divides the slots of limited backends among processes, such that together they never use more than the limit."""

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Final

import msgspec
from msgspec.structs import replace

from nexus.domain.priorities import PRIORITIES

Key = tuple[str, str]
"""The name of a backend, and the backend's own name for a model with a limit of its own; empty: the whole backend."""

OUTSIDE: Final = ""
"""Stands for all other replicas, as if they were one more process of this one. It has the slots that they have leased,
and those that no replica has leased. When they ask for slots, it is granted some, whose lease this replica gives up."""
NOTHING_WAITS: Final = (0,) * len(PRIORITIES)
"""How many clients wait, of each priority, highest first."""


NO_EPOCH: Final = 0
"""Before the first order."""


class SlotOrder(msgspec.Struct, frozen=True, array_like=True):
    """What the broker tells one process about one limit."""

    key: Key
    epoch: int
    """Numbers the divisions: a backend that has left and come back is divided anew, and what was granted is void. So is
    what a process had that was set aside."""
    granted: int
    """Slots that it may use from now on, besides those that it has."""
    is_contended: bool
    """Whether requests wait for these slots in another process: free ones go back at once."""


class SlotReport(msgspec.Struct, frozen=True, array_like=True):
    """What one process tells the broker about one limit."""

    key: Key
    epoch: int
    returned: int
    """Slots that it has given back since its last report."""
    seen: int
    """Slots that it has been granted so far, as far as it knows: others are on their way to it."""
    requests: int = 0
    """Its requests that wait because no slot is free."""
    waiting: tuple[int, ...] = NOTHING_WAITS
    """Of each priority, the clients to which those belong."""


class _Share:
    """What one process has of the slots of one limit, and would like to have."""

    __slots__ = ("epoch", "granted", "held", "is_contended", "report", "turn")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.held = 0
        """Slots that it may use, as far as the broker knows: it never uses more."""
        self.granted = 0
        """All that it was ever granted in this epoch."""
        self.is_contended = False
        self.turn = 0.0
        """Slots that it was granted while requests waited, relative to its clients: the lowest is next."""
        self.report: SlotReport | None = None
        """The last one; None: it has no request that waits."""

    @property
    def unmet(self) -> int:
        """Requests that wait there, and for which no slot is on its way."""
        report = self.report
        return 0 if report is None else max(0, report.requests - (self.granted - report.seen))

    @property
    def rank(self) -> int:
        """The highest priority of which a request waits there."""
        waiting = NOTHING_WAITS if self.report is None else self.report.waiting
        return next((rank for rank, clients in enumerate(waiting) if clients), len(waiting))

    @property
    def clients(self) -> int:
        """The clients that wait there with the highest priority; at least 1."""
        waiting, rank = NOTHING_WAITS if self.report is None else self.report.waiting, self.rank
        return waiting[rank] if rank < len(waiting) else 1


class _Division:
    """The slots of one limit, and the shares of the processes."""

    __slots__ = ("epoch", "limit", "shares", "turn")

    def __init__(self, epoch: int, processes: Iterator[str]) -> None:
        self.epoch = epoch
        self.limit = 0
        self.shares = {process: _Share(epoch) for process in processes}
        self.turn = 0.0
        """The turn of the share that was granted a slot last: a newcomer begins there, and has missed nothing."""

    def shift(self, delta: int) -> None:
        """Change the limit; where other replicas share it, new slots are theirs until this one leases them."""
        self.limit += delta
        if (outside := self.shares.get(OUTSIDE)) is not None:
            outside.held = max(0, outside.held + delta)

    @property
    def free(self) -> int:
        """Slots that no process has; negative while a limit that was lowered is still exceeded."""
        return self.limit - sum(share.held for share in self.shares.values())


class SlotBroker:
    """Grants slots to processes and takes back what they do not use; it does no I/O.

    While no request waits anywhere, all slots are at the processes, what is free being given to all in equal parts, so
    that a request is sent without asking. Once a request waits at one process, all others give back what is idle at
    once and what is in use as soon as it is free, and each slot goes to the process whose turn it is: of those with
    requests of the highest priority, the one that got the fewest for each client that waits there. A process that waits
    alone keeps its slots and hands them to its own requests.

    A process that does not answer keeps only the slots of its requests; see :meth:`set_aside`.

    Bound: the slots in use never exceed the limit, except that after a limit is lowered, requests that were sent before
    are finished, and that a process that was set aside may use what it lost until it reads that this is void.
    """

    def __init__(self, on_order: Callable[[str, SlotOrder], None]) -> None:
        """:param on_order: sends an order to a process; orders to one process must arrive in order."""
        self._order = on_order
        self._processes: dict[str, None] = {}
        self._aside: set[str] = set()
        """The processes that are set aside."""
        self._divisions: dict[Key, _Division] = {}
        self._epochs = count(1)

    def join(self, process: str) -> None:
        """Let *process*, which has no slot yet, share all limits."""
        self._processes[process] = None
        for key, division in self._divisions.items():
            division.shares[process] = _Share(division.epoch)
            self._bring_in(key, division, process)

    def leave(self, process: str) -> None:
        """Take back all slots of *process*, whose connections are closed."""
        self._processes.pop(process, None)
        self._aside.discard(process)
        for key, division in self._divisions.items():
            if division.shares.pop(process, None) is not None:
                self._settle(key, division)

    def set_aside(self, process: str, in_use: Callable[[Key], int]) -> None:
        """Take back the slots of *process*, which does not answer, that its requests do not use, and grant it no more.

        What it has now is void, so that it uses no slot twice should it go on.

        :param in_use: returns the requests that it has within a limit, as far as is known.
        """
        if process not in self._processes or process in self._aside:
            return
        self._aside.add(process)
        for key, division in self._divisions.items():
            share = division.shares[process]
            share.epoch = next(self._epochs)
            share.held = share.granted = min(share.held, in_use(key))
            if share.report is not None:
                share.report = replace(share.report, seen=0)
            self._order(process, SlotOrder(key, share.epoch, share.granted, share.is_contended))
            self._settle(key, division)

    def bring_back(self, process: str) -> None:
        """Let *process*, which answers again, share all limits as before."""
        if process not in self._aside:
            return
        self._aside.discard(process)
        for key, division in self._divisions.items():
            self._bring_in(key, division, process)

    def limit(self, key: Key, limit: int, *, is_shared: bool = False) -> None:
        """Set the limit of *key*.

        :param is_shared: whether other replicas use these slots too; see :data:`OUTSIDE`.
        """
        division = self._divisions.get(key)
        if division is not None and is_shared is not (OUTSIDE in division.shares):
            self._divisions.pop(key)
            division = None
        if division is None:
            division = self._divisions[key] = _Division(next(self._epochs), iter(self._processes))
            if is_shared:
                division.shares[OUTSIDE] = _Share(division.epoch)
        if division.limit != limit:
            division.shift(limit - division.limit)
            self._settle(key, division)

    def lease(self, key: Key, slots: int) -> None:
        """Set how many of the shared slots of *key* this replica may use; what is in use beyond that comes back later.

        :param slots: of all its processes together.
        """
        division = self._divisions.get(key)
        if division is None or (outside := division.shares.get(OUTSIDE)) is None:
            return
        outside.held = max(0, division.limit - slots)
        self._settle(key, division)

    def forget(self, key: Key) -> None:
        """Divide the slots of *key* no more; later reports of it are ignored."""
        self._divisions.pop(key, None)

    @property
    def keys(self) -> tuple[Key, ...]:
        """The limits that are divided."""
        return tuple(self._divisions)

    def limit_of(self, key: Key) -> int:
        """Return the limit of *key*."""
        return self._divisions[key].limit

    def epoch_of(self, key: Key) -> int:
        """Return the number of the present division of *key*."""
        return self._divisions[key].epoch

    def is_shared(self, key: Key) -> bool:
        """Whether other replicas use these slots too."""
        return OUTSIDE in self._divisions[key].shares

    def is_exceeded(self, key: Key) -> bool:
        """Whether more slots are in use than there are now."""
        return self._divisions[key].free < 0

    def own_slots(self, key: Key) -> int:
        """Return how many slots all processes of this replica may use together."""
        division = self._divisions[key]
        outside = division.shares.get(OUTSIDE)
        return division.limit - (0 if outside is None else outside.held)

    def held(self, key: Key) -> dict[str, int]:
        """Return how many slots each process may use, :data:`OUTSIDE` included."""
        return {process: share.held for process, share in self._divisions[key].shares.items()}

    def unmet(self, key: Key) -> int:
        """Return how many requests wait for a slot, at all processes of this replica."""
        return sum(share.unmet for share in self._own_shares(key))

    def waiting(self, key: Key) -> int:
        """Return how many clients wait, at all processes of this replica."""
        return sum(share.clients for share in self._own_shares(key) if share.unmet)

    def report(self, process: str, report: SlotReport) -> None:
        """Apply what *process* reports."""
        division = self._divisions.get(report.key)
        share = None if division is None else division.shares.get(process)
        if division is None or share is None:
            return
        if report.epoch != share.epoch:
            # No order of this epoch has reached it: what it gave back was void, but its requests wait all the same.
            report = replace(report, returned=0, seen=0)
        share.held -= report.returned
        if not share.unmet:
            # It has not waited, and so has missed no turn.
            share.turn = max(share.turn, division.turn)
        share.report = report if report.requests else None
        self._settle(report.key, division)

    def _own_shares(self, key: Key) -> list[_Share]:
        """Return the shares of the processes of this replica that can use slots."""
        left_out = {OUTSIDE, *self._aside}
        return [share for process, share in self._divisions[key].shares.items() if process not in left_out]

    def _settle(self, key: Key, division: _Division) -> None:
        """Grant what is free, and tell each process whether its free slots are wanted elsewhere."""
        shares = {process: share for process, share in division.shares.items() if process not in self._aside}
        granted = self._grant_in_turn(division, shares)
        hungry = [process for process, share in shares.items() if share.unmet]
        if not hungry:
            self._spread(division, shares, granted)
        is_over = division.free < 0
        for process, share in shares.items():
            is_contended = is_over or any(other != process for other in hungry)
            number = granted.get(process, 0)
            if number or is_contended is not share.is_contended:
                share.is_contended = is_contended
                self._order(process, SlotOrder(key, share.epoch, number, is_contended))

    def _bring_in(self, key: Key, division: _Division, process: str) -> None:
        """Give *process* its part."""
        share = division.shares[process]
        # It has missed no turn.
        share.turn = max(share.turn, division.turn)
        self._settle(key, division)
        if not share.held:
            self._call_in(key, division, process)

    def _call_in(self, key: Key, division: _Division, newcomer: str) -> None:
        """Let the others give back what is idle, so that the *newcomer* gets its part of it before it needs that."""
        left_out = {newcomer, OUTSIDE, *self._aside}
        own = {process: share for process, share in division.shares.items() if process not in left_out}
        if sum(share.held for share in own.values()) <= len(own):
            return
        for process, share in own.items():
            if share.held and not share.is_contended:
                # What they report ends it.
                share.is_contended = True
                self._order(process, SlotOrder(key, share.epoch, 0, is_contended=True))

    def _grant_in_turn(self, division: _Division, shares: Mapping[str, _Share]) -> dict[str, int]:
        granted: dict[str, int] = {}
        free = division.free
        while free > 0:
            hungry = [(share.rank, share.turn, process) for process, share in shares.items() if share.unmet]
            if not hungry:
                break
            _, division.turn, process = min(hungry)
            share = shares[process]
            share.turn += 1 / share.clients
            share.held += 1
            share.granted += 1
            granted[process] = granted.get(process, 0) + 1
            free -= 1
        return granted

    def _spread(self, division: _Division, shares: Mapping[str, _Share], granted: dict[str, int]) -> None:
        """Give each process the same part of what is free, to have when its next requests come."""
        own = [(process, share) for process, share in shares.items() if process != OUTSIDE]
        part = division.free // len(own) if own else 0
        for process, share in own if part > 0 else ():
            share.held += part
            share.granted += part
            granted[process] = granted.get(process, 0) + part
