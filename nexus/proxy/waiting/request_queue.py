"""The queue for requests when every backend that could answer is at its limit: bounded, fair, woken by freed slots.

A freed slot is handed over in the same step of the event loop: no new request can take it first.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator
from math import inf
from time import monotonic
from typing import Final, Generic, TypeVar

from nexus.errors import RequestError
from nexus.proxy.waiting import forecast
from nexus.proxy.waiting.claim import Claim, Given, Unmet
from nexus.proxy.waiting.counts import QueueCounts
from nexus.proxy.waiting.fair_queue import FairQueue, Group, Search, Waiter
from nexus.proxy.waiting.forecast import Forecast
from nexus.proxy.waiting.service_rate import ServiceRate
from nexus.proxy.waiting.sharing import Depth, Sharing

T = TypeVar("T")

MAX_TRIED_AT_ONCE: Final = 64
"""Waiters that try in one step of the event loop; each try runs the whole router."""
MIN_RETRY_S: Final = 0.01
"""The shortest time after which requests try again that no slot has woken."""
HEADER: Final = "X-Nexus-Queue-Timeout"


class _Waiter(Waiter, Generic[T]):
    __slots__ = ("future", "try_now")

    def __init__(
        self, claim: Claim, since: float, try_now: Callable[[], Given[T] | Unmet], future: asyncio.Future[T]
    ) -> None:
        super().__init__(claim, since)
        self.try_now = try_now
        self.future = future


class RequestQueue(Generic[T]):
    """One queue for all models; each waiter knows which backends it waits for."""

    def __init__(
        self,
        *,
        max_size: int,
        max_wait_s: float | None,
        max_body_bytes: int | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        """:param max_wait_s: None: as long as the deadline of each request lets it.
        :param max_body_bytes: of all requests that wait together; None: no limit.
        :param sharing: with other processes, of the limits; None: there are no others.
        """
        self._max_size = max_size
        self._max_body_bytes = max_body_bytes
        self._sharing = sharing or Sharing()
        self.counts = QueueCounts()
        self.line: Final[FairQueue[_Waiter[T]]] = FairQueue()
        self._max_wait_s = max_wait_s
        self._rates: dict[str, ServiceRate] = {}
        self._is_trying = False
        self._searches: dict[str, Search[_Waiter[T]]] = {}
        """By backend, the searches for a request that can use its slot, as far as they take several steps."""
        self._retrying: Iterator[_Waiter[T]] | None = None
        """Those that have not tried yet since the fleet changed; None when all have."""
        self._blocked: set[Group] = set()
        """Groups of which one request has tried in vain since the fleet changed, which holds for the others too."""
        self._due: dict[str, float] = {}
        """When, on the monotonic clock, requests try again that a backend refused for a time."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        """When it is due. The handle cannot always tell: that of uvloop has no time if it is due at once."""

    def resize(self, *, max_size: int, max_wait_s: float | None, max_body_bytes: int | None = None) -> None:
        """Apply new limits; a request that already waits keeps the old ones."""
        self._max_size = max_size
        self._max_body_bytes = max_body_bytes
        self._max_wait_s = max_wait_s

    @property
    def max_size(self) -> int:
        """How many requests may wait: the part of this process, so that the sum over all processes is the limit."""
        return self._sharing.part_of(self._max_size)

    @property
    def max_body_bytes(self) -> int | None:
        """How large their bodies may be together, likewise; None: there is no limit."""
        return None if self._max_body_bytes is None else self._sharing.part_of(self._max_body_bytes)

    def keep_only(self, backends: frozenset[str]) -> None:
        """Forget the measured rates of all other backends."""
        self._rates = {name: rate for name, rate in self._rates.items() if name in backends}

    def __len__(self) -> int:
        return len(self.line)

    async def wait(  # noqa: PLR0913 - a request, and the limits of its wait
        self,
        claim: Claim,
        unmet: Unmet,
        try_now: Callable[[], Given[T] | Unmet],
        *,
        give_back: Callable[[T], None],
        left_s: float,
        own_limit_s: float | None = None,
    ) -> T:
        """Wait until *try_now* gives something; it is asked, in turn, whenever one of the backends may have a slot.

        :param unmet: what it waits for at first.
        :param give_back: called with what *try_now* gave at the very moment in which the waiter left.
        :param left_s: what is left of the whole deadline, in seconds.
        :param own_limit_s: the longest wait that the client accepts; None: it does not say.
        :raises RequestError: ``queue_full``, ``queue_timeout`` or, when *left_s* is shortest, ``deadline_exceeded``.
        """
        limit_s, limit = self.limit_of(left_s, own_limit_s)
        self._make_room(claim, unmet)
        began, counts = monotonic(), self.counts
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(claim, began, try_now, future)
        self._enqueue(waiter, unmet)
        counts.enqueued += 1
        is_taken = is_too_late = False
        try:
            async with asyncio.timeout(limit_s):
                found: T = await future
                is_taken = True
                return found
        except TimeoutError:
            is_too_late = True
            raise self._too_late(waiter, limit_s, limit) from None
        finally:
            self._remove(waiter)
            is_shed = future.done() and not future.cancelled() and isinstance(future.exception(), _Shed)
            counts.drained += is_taken
            counts.timed_out += is_too_late
            counts.left += not (is_taken or is_too_late or is_shed)
            counts.waits.observe(monotonic() - began)
            if not is_taken and future.done() and not future.cancelled() and future.exception() is None:
                give_back(future.result())

    def slot_freed(self, backend: str) -> None:
        """Offer a freed slot of the backend of that name to the first request that waits for it and can use it."""
        if backend not in self.line.places:
            return
        search = self._searches[backend] = Search[_Waiter[T]]()
        if self._is_trying:
            # A try has freed a slot: the search goes on once that try is over.
            asyncio.get_running_loop().call_soon(self._offer, backend, search)
        else:
            self._offer(backend, search)

    def fleet_changed(self) -> None:
        """Let every request try again: other backends may have its model now."""
        if not len(self.line):
            return
        is_under_way = self._retrying is not None
        self._retrying, self._blocked = iter(self.line.all_in_turn()), set()
        if self._is_trying and not is_under_way:
            asyncio.get_running_loop().call_soon(self._retry_some)
        elif not is_under_way:
            self._retry_some()

    def forecast(self, claim: Claim, backends: frozenset[str]) -> Forecast:
        """Return how long a request with *claim* would wait for one of *backends* if it began to wait now."""
        ahead, now = self.line.ahead_of(claim, backends), monotonic()
        rates = [self._rates.get(backend) or ServiceRate() for backend in backends]
        per_second = sum(rate.per_second(now) for rate in rates) or 1.0
        return Forecast(ahead, (ahead + 1) / per_second, any(rate.is_measured for rate in rates))

    def rates(self) -> dict[str, float]:
        """Return how many requests per second each backend has taken lately while some waited for it."""
        now = monotonic()
        return {name: rate.per_second(now) for name, rate in self._rates.items() if rate.is_measured}

    def oldest_s(self) -> float:
        """Return how long the oldest request has waited; 0 when none waits."""
        now = monotonic()
        return max((now - next(iter(waiters)).since for waiters in self.line.models.values()), default=0.0)

    def limit_of(self, left_s: float, own_limit_s: float | None) -> tuple[float, str]:
        """Return the longest wait in seconds, and what limits it; empty: the deadline of the whole request."""
        limits = [(left_s, "")]
        if self._max_wait_s is not None:
            limits.append((self._max_wait_s, "queue.max_wait_seconds"))
        if own_limit_s is not None:
            limits.append((own_limit_s, HEADER))
        # Of equal limits the last, which is the most specific, is named.
        return min(reversed(limits), key=lambda limit: limit[0])

    def has_room_for(self, claim: Claim) -> bool:
        """Whether a request with *claim* could wait, in the place of others if need be."""
        return self._has_room_for(claim, self._room)

    @property
    def _room(self) -> Depth:
        """How much may wait here now. What waits stays, though other processes may have taken their parts since."""
        line, limit = self.line, self._max_body_bytes
        most_bytes = sys.maxsize if limit is None else self._sharing.max_body_bytes(limit)
        return Depth(max(self._sharing.max_requests(self._max_size), len(line)), max(most_bytes, line.size_bytes))

    def _has_room_for(self, claim: Claim, room: Depth) -> bool:
        if len(self) >= room.requests and (not self._max_size or self.line.to_shed(claim) is None):
            return False
        return sum(self.line.bytes_by_rank[claim.rank + 1 :]) >= self._excess_bytes(claim, room)

    def _make_room(self, claim: Claim, unmet: Unmet) -> None:
        """Shed requests until there is room for one with *claim*.

        :raises RequestError: that one has to leave.
        """
        room = self._room
        if (reason := self._lack_of_room(claim, room)) and not self._has_room_for(claim, room):
            self.counts.refused += 1
            raise forecast.queue_full(reason, self.forecast(claim, unmet.backends), waiting=len(self))
        while (reason := self._lack_of_room(claim, room)) and (victim := self.line.to_shed(claim)) is not None:
            self._remove(victim)
            self.counts.shed += 1
            expected = self.forecast(victim.claim, victim.group.backends)
            text = f"{reason}, and another request came before it"
            victim.future.set_exception(_Shed.of(forecast.queue_full(text, expected, waiting=len(self))))

    def _lack_of_room(self, claim: Claim, room: Depth) -> str:
        """Return why the queue is full; empty when it is not."""
        if len(self) >= room.requests:
            return "the queue is full (queue.max_size)"
        is_too_large = self._excess_bytes(claim, room)
        return "the bodies in the queue are too large (queue.max_body_bytes)" if is_too_large else ""

    def _excess_bytes(self, claim: Claim, room: Depth) -> int:
        """Return by how much the bodies would exceed their limit with that of *claim*; 0 when they would not.

        A body that is larger than the limit may wait alone: otherwise it could never wait.
        """
        return max(0, self.line.size_bytes + claim.size_bytes - room.body_bytes) if len(self) else 0

    def _enqueue(self, waiter: _Waiter[T], unmet: Unmet) -> None:
        self.line.push(waiter, unmet.backends)
        self._sharing.on_change()
        for backend in unmet.backends:
            rate = self._rates.get(backend)
            if rate is None:
                rate = self._rates[backend] = ServiceRate()
            rate.resume(waiter.since)
        if unmet.retry_in_s is not None:
            self._retry_later(unmet.backends, unmet.retry_in_s)

    def _remove(self, waiter: _Waiter[T]) -> None:
        """Let *waiter* leave the queue: one that has been served, or has given up, no longer counts."""
        if not self.line.remove(waiter):
            return
        self._sharing.on_change()
        for backend in waiter.group.backends:
            if backend not in self.line.places:
                if self._due.pop(backend, None) is not None:
                    self._set_timer()
                if (rate := self._rates.get(backend)) is not None:
                    rate.pause(monotonic())

    def _too_late(self, waiter: _Waiter[T], limit_s: float, limit: str) -> RequestError:
        if not limit:
            return RequestError("deadline_exceeded", "no slot became free before the request's deadline")
        self._remove(waiter)
        expected = self.forecast(waiter.claim, waiter.group.backends)
        return forecast.queue_timeout(limit_s, limit, expected, waiting=len(self))

    # tries

    def _offer(self, backend: str, search: Search[_Waiter[T]]) -> None:
        """Offer the slots of *backend*, to some requests in this step of the event loop and to others in the next."""
        if self._searches.get(backend) is not search:
            return
        room = MAX_TRIED_AT_ONCE
        while room > 0:
            tried, is_over = self._offer_once(backend, search, room)
            room -= tried
            if is_over:
                del self._searches[backend]
                return
        asyncio.get_running_loop().call_soon(self._offer, backend, search)

    def _offer_once(self, backend: str, search: Search[_Waiter[T]], room: int) -> tuple[int, bool]:
        """Try the next request of each client until one is served; return how many tried, and whether all is done."""
        tried = 0
        for waiter in self.line.in_turn(backend, search):
            tried += 1
            found = self._try(waiter)
            if isinstance(found, Given):
                return tried, found.backend == backend and not found.has_room
            if found is not None:
                search.tried.add(waiter)
                if found.is_general and found.backends == waiter.group.backends:
                    search.blocked.add(waiter.group)
            if tried >= room:
                return tried, False
        return tried, not tried

    def _retry_some(self) -> None:
        """Let some of those that have not tried yet since the fleet changed try now, the others in the next step."""
        tried = 0
        for waiter in self._retrying or ():
            if waiter.future.done() or waiter.group in self._blocked:
                continue
            before = waiter.group.backends
            found = self._try(waiter)
            if isinstance(found, Unmet) and found.is_general and found.backends == before:
                self._blocked.add(waiter.group)
            tried += 1
            if tried >= MAX_TRIED_AT_ONCE:
                asyncio.get_running_loop().call_soon(self._retry_some)
                return
        self._retrying = None

    def _try(self, waiter: _Waiter[T]) -> Given[T] | Unmet | None:
        """Let *waiter* try, and return what it found; None when it has left or its search has failed."""
        if waiter.future.done():
            self._remove(waiter)
            return None
        self._is_trying = True
        try:
            found = waiter.try_now()
        except Exception as exc:  # noqa: BLE001 - it belongs to the waiter, not to the request that freed a slot
            waiter.future.set_exception(exc)
            self._remove(waiter)
            return None
        finally:
            self._is_trying = False
        if isinstance(found, Given):
            waiter.future.set_result(found.thing)
            self.line.charge(waiter, found.backend)
            if (rate := self._rates.get(found.backend)) is not None:
                rate.note(monotonic())
            self._remove(waiter)
            return found
        if found.backends != waiter.group.backends:
            self._move(waiter, found.backends)
        if found.retry_in_s is not None:
            self._retry_later(found.backends, found.retry_in_s)
        return found

    def _move(self, waiter: _Waiter[T], backends: frozenset[str]) -> None:
        now = monotonic()
        before = waiter.group.backends
        self.line.move(waiter, backends)
        for backend in backends:
            self._rates.setdefault(backend, ServiceRate()).resume(now)
        for backend in before - backends:
            if backend not in self.line.places and (rate := self._rates.get(backend)) is not None:
                rate.pause(now)

    # refusals for a time

    def _retry_later(self, backends: frozenset[str], retry_in_s: float) -> None:
        """Let the first requests that wait for *backends* try again then."""
        at = monotonic() + max(MIN_RETRY_S, retry_in_s)
        for backend in backends:
            self._due[backend] = min(at, self._due.get(backend, at))
        if at < self._timer_at:
            self._set_timer()

    def _set_timer(self) -> None:
        """Set the one timer to the time that comes first."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = min(self._due.values(), default=inf)
        if self._due:
            # The loop's own clock is the monotonic one.
            self._timer = asyncio.get_running_loop().call_at(self._timer_at, self._retry_due)

    def _retry_due(self) -> None:
        now = monotonic()
        self._timer, self._timer_at = None, inf
        for backend in [name for name, at in self._due.items() if at <= now]:
            del self._due[backend]
            self.slot_freed(backend)
        self._set_timer()


class _Shed(RequestError):
    """A request had to leave a full queue for another one."""

    @classmethod
    def of(cls, error: RequestError) -> "_Shed":
        return cls(error.code, error.message, context=error.context, retry_after_s=error.retry_after_s)
