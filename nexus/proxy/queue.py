"""Where requests wait when every backend that could answer is at its limit: bounded, by priority, then in turn.

A freed slot is handed over at once, in the same step of the event loop that freed it: no newcomer can take it first.
"""

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from time import monotonic
from typing import Generic, TypeVar

from nexus.errors import RequestError
from nexus.proxy.queue_counts import QueueCounts

T = TypeVar("T")


class _Waiter(Generic[T]):
    __slots__ = ("backends", "future", "lane", "try_now")

    def __init__(
        self,
        lane: "list[_Waiter[T]]",
        backends: AbstractSet[str],
        try_now: Callable[[], T | None],
        future: asyncio.Future[T],
    ) -> None:
        self.lane = lane
        self.backends = backends
        self.try_now = try_now
        self.future = future

    def leave(self) -> None:
        """Make room: who has been served, or has given up, no longer counts."""
        if self in self.lane:
            self.lane.remove(self)


class WaitingLine(Generic[T]):
    """One line for all models; each waiter knows which backends it waits for."""

    def __init__(self, *, max_size: int, max_wait_s: float) -> None:
        self.max_size = max_size
        self.counts = QueueCounts()
        self._max_wait_s = max_wait_s
        self._high: list[_Waiter[T]] = []
        self._normal: list[_Waiter[T]] = []

    def resize(self, *, max_size: int, max_wait_s: float) -> None:
        """Take new limits; who waits already keeps the old."""
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

        :param give_back: takes what was given in the very moment in which the waiter left.
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
        lane.append(waiter)
        counts, began = self.counts, monotonic()
        counts.enqueued += 1
        is_taken = is_too_late = False
        max_wait_s = self._max_wait_s
        try:
            async with asyncio.timeout(min(max_wait_s, left_s)):
                found: T = await waiter.future
                is_taken = True
                return found
        except TimeoutError:
            is_too_late = True
            if left_s < max_wait_s:
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
        """Offer a freed slot of the backend of that name to the first who waits for it."""
        if not (self._high or self._normal):
            return
        for waiter in self._in_turn():
            if backend in waiter.backends and _serve(waiter):
                return

    def fleet_changed(self) -> None:
        """Let everybody try again: other backends may have the model now."""
        for waiter in self._in_turn():
            _serve(waiter)

    def _in_turn(self) -> tuple[_Waiter[T], ...]:
        return (*self._high, *self._normal)

    def _retry_after_s(self) -> int:
        """A guess that grows with the line: whoever comes back then finds it shorter."""
        return max(1, min(30, round(self._max_wait_s * (len(self) + 1) / max(1, self.max_size))))


def _serve(waiter: _Waiter[T]) -> bool:
    """Let *waiter* try; whether it has taken something."""
    if waiter.future.done():
        return False
    try:
        found = waiter.try_now()
    except Exception as exc:  # noqa: BLE001 - it is the waiter's own: whoever freed a slot has no part in it
        waiter.future.set_exception(exc)
    else:
        if found is None:
            return False
        waiter.future.set_result(found)
    waiter.leave()
    return waiter.future.exception() is None
