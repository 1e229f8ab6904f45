"""The queue for requests when every backend that could answer is at its limit: bounded, by priority, then in turn.

A freed slot is handed over in the same step of the event loop: no new request can take it first.
"""

import asyncio
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from itertools import chain, islice
from time import monotonic
from typing import Final, Generic, TypeVar

from nexus.errors import RequestError
from nexus.observability.metrics.histogram import WAIT_BUCKETS_S, Histogram

T = TypeVar("T")

MAX_TRIED_AT_ONCE: Final = 64
"""Waiters that try in one step of the event loop; each try runs the whole router."""
USUAL_WAIT_S: Final = 30.0
"""How long a full queue is taken to last when no longest wait is configured."""


class QueueCounts:
    """Counts the requests in the queue: each of those that were enqueued waits, or has left in one of three ways."""

    __slots__ = ("drained", "enqueued", "left", "timed_out", "waits")

    def __init__(self) -> None:
        self.enqueued = 0
        self.drained = 0
        """Those that were given a slot."""
        self.timed_out = 0
        self.left = 0
        """Those whose client left, that the shutdown ended, or that no backend can answer any more."""
        self.waits = Histogram(WAIT_BUCKETS_S)
        """The waits of all that have left the queue, in seconds."""


class _Waiter(Generic[T]):
    __slots__ = ("backends", "future", "lane", "try_now")

    def __init__(
        self,
        lane: "dict[_Waiter[T], None]",
        backends: AbstractSet[str],
        try_now: Callable[[], T | None],
        future: asyncio.Future[T],
    ) -> None:
        self.lane = lane
        self.backends = backends
        self.try_now = try_now
        self.future = future

    def leave(self) -> None:
        """Leave the queue: a waiter that has been served, or has given up, no longer counts."""
        self.lane.pop(self, None)


class RequestQueue(Generic[T]):
    """One queue for all models; each waiter knows which backends it waits for."""

    def __init__(self, *, max_size: int, max_wait_s: float | None) -> None:
        """:param max_wait_s: None: as long as the deadline of each request lets it."""
        self.max_size = max_size
        self.counts = QueueCounts()
        self._max_wait_s = max_wait_s
        # Ordered sets, so that removing a waiter from a long queue takes constant time.
        self._high: dict[_Waiter[T], None] = {}
        self._normal: dict[_Waiter[T], None] = {}
        self._retrying: Iterator[_Waiter[T]] | None = None
        """Those that have not tried yet since the fleet changed; None when all have."""

    def resize(self, *, max_size: int, max_wait_s: float | None) -> None:
        """Apply new limits; a request that already waits keeps the old ones."""
        self.max_size = max_size
        self._max_wait_s = max_wait_s

    def __len__(self) -> int:
        return len(self._high) + len(self._normal)

    async def wait(
        self,
        backends: AbstractSet[str],
        try_now: Callable[[], T | None],
        *,
        give_back: Callable[[T], None],
        is_urgent: bool,
        left_s: float,
    ) -> T:
        """Wait until *try_now* gives something; it is asked, in turn, whenever one of *backends* may have a slot.

        :param give_back: called with what *try_now* gave at the very moment in which the waiter left.
        :param left_s: what is left of the whole deadline, in seconds.
        :raises RequestError: ``queue_full``, ``queue_timeout`` or, when *left_s* is the shorter, ``deadline_exceeded``.
        """
        if len(self) >= self.max_size:
            raise RequestError(
                "queue_full",
                "every backend is at its limit and the queue is full (queue.max_size)",
                retry_after_s=self._retry_after_s(),
            )
        lane = self._high if is_urgent else self._normal
        waiter = _Waiter(lane, backends, try_now, asyncio.get_running_loop().create_future())
        lane[waiter] = None
        counts, began = self.counts, monotonic()
        counts.enqueued += 1
        is_taken = is_too_late = False
        max_wait_s = self._max_wait_s
        try:
            async with asyncio.timeout(left_s if max_wait_s is None else min(max_wait_s, left_s)):
                found: T = await waiter.future
                is_taken = True
                return found
        except TimeoutError:
            is_too_late = True
            if max_wait_s is None or left_s < max_wait_s:
                raise RequestError("deadline_exceeded", "no slot became free before the request's deadline") from None
            raise RequestError(
                "queue_timeout",
                f"no slot became free within {max_wait_s:g} s (queue.max_wait_seconds)",
                retry_after_s=self._retry_after_s(),
            ) from None
        finally:
            waiter.leave()
            counts.drained += is_taken
            counts.timed_out += is_too_late
            counts.left += not (is_taken or is_too_late)
            counts.waits.observe(monotonic() - began)
            future = waiter.future
            if not is_taken and future.done() and not future.cancelled() and future.exception() is None:
                give_back(future.result())

    def slot_freed(self, backend: str) -> None:
        """Offer a freed slot of the backend of that name to the first request that waits for it and can use it."""
        if not (self._high or self._normal):
            return
        first = list(islice(self._waiting_for(backend), MAX_TRIED_AT_ONCE))
        if not any(map(_serve, first)) and len(first) == MAX_TRIED_AT_ONCE:
            asyncio.get_running_loop().call_soon(self._offer_slot, list(self._waiting_for(backend)))

    def fleet_changed(self) -> None:
        """Let every request try again: other backends may have its model now."""
        if not (self._high or self._normal):
            return
        is_under_way = self._retrying is not None
        self._retrying = iter(self._in_turn())
        if not is_under_way:
            self._try_some()

    def _in_turn(self) -> tuple[_Waiter[T], ...]:
        return (*self._high, *self._normal)

    def _waiting_for(self, backend: str) -> Iterator[_Waiter[T]]:
        return (waiter for waiter in chain(self._high, self._normal) if backend in waiter.backends)

    def _offer_slot(self, waiters: list[_Waiter[T]]) -> None:
        """Offer a slot that the first waiters could not use to the next, some in each step of the event loop."""
        some, rest = waiters[:MAX_TRIED_AT_ONCE], waiters[MAX_TRIED_AT_ONCE:]
        if not any(map(_serve, some)) and rest:
            asyncio.get_running_loop().call_soon(self._offer_slot, rest)

    def _try_some(self) -> None:
        """Let some of those that have not tried yet since the fleet changed try now, the others in the next step."""
        waiters = self._retrying or iter(())
        tried = [_serve(waiter) for waiter in islice(waiters, MAX_TRIED_AT_ONCE)]
        if len(tried) < MAX_TRIED_AT_ONCE:
            self._retrying = None
        else:
            asyncio.get_running_loop().call_soon(self._try_some)

    def _retry_after_s(self) -> int:
        """Return a guess that grows with the queue: a client that comes back then finds it shorter."""
        longest_s = self._max_wait_s or USUAL_WAIT_S
        return max(1, min(30, round(longest_s * (len(self) + 1) / max(1, self.max_size))))


def _serve(waiter: _Waiter[T]) -> bool:
    """Let *waiter* try and return whether it has taken something."""
    if waiter.future.done():
        return False
    try:
        found = waiter.try_now()
    except Exception as exc:  # noqa: BLE001 - it belongs to the waiter, not to the request that freed a slot
        waiter.future.set_exception(exc)
    else:
        if found is None:
            return False
        waiter.future.set_result(found)
    waiter.leave()
    return waiter.future.exception() is None
