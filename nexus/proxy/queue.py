"""Where requests wait when every backend that could answer is at its limit: bounded, by priority, then in turn.

A freed slot is handed over at once, in the same step of the event loop that freed it: no newcomer can take it first.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from nexus.errors import RequestError

T = TypeVar("T")


class _Waiter(Generic[T]):
    __slots__ = ("backends", "future", "try_now")

    def __init__(self, backends: frozenset[str], try_now: Callable[[], T | None], future: asyncio.Future[T]) -> None:
        self.backends = backends
        self.try_now = try_now
        self.future = future


class WaitingLine(Generic[T]):
    """One line for all models; each waiter knows which backends it waits for."""

    def __init__(self, *, max_size: int, max_wait_s: float) -> None:
        self._max_size = max_size
        self._max_wait_s = max_wait_s
        self._high: list[_Waiter[T]] = []
        self._normal: list[_Waiter[T]] = []

    def resize(self, *, max_size: int, max_wait_s: float) -> None:
        """Take new limits; who waits already keeps the old."""
        self._max_size = max_size
        self._max_wait_s = max_wait_s

    def __len__(self) -> int:
        return len(self._high) + len(self._normal)

    async def wait(
        self,
        backends: frozenset[str],
        try_now: Callable[[], T | None],
        *,
        give_back: Callable[[T], None],
        is_urgent: bool,
        left_s: float,
    ) -> T:
        """Wait until *try_now* gives something; it is asked, in turn, whenever one of *backends* may have a slot.

        :param give_back: takes what was given in the very moment in which the waiter left.
        :param left_s: what is left of the whole deadline, in seconds.
        :raises RequestError: ``queue_full`` or ``queue_timeout``.
        """
        if len(self) >= self._max_size:
            raise RequestError(
                "queue_full",
                "every backend is at its limit and the queue is full (queue.max_size)",
                retry_after_s=self._retry_after_s(),
            )
        lane = self._high if is_urgent else self._normal
        waiter = _Waiter(backends, try_now, asyncio.get_running_loop().create_future())
        lane.append(waiter)
        is_taken = False
        try:
            async with asyncio.timeout(min(self._max_wait_s, left_s)):
                found: T = await waiter.future
                is_taken = True
                return found
        except TimeoutError:
            raise RequestError(
                "queue_timeout",
                f"no slot became free within {self._max_wait_s:g} s (queue.max_wait_seconds)",
                retry_after_s=self._retry_after_s(),
            ) from None
        finally:
            if waiter in lane:
                lane.remove(waiter)
            future = waiter.future
            if not is_taken and future.done() and not future.cancelled() and future.exception() is None:
                give_back(future.result())

    def slot_freed(self, backend: str) -> None:
        """Offer a freed slot of the backend of that name to the first who waits for it."""
        if not self._high and not self._normal:
            return
        self._offer(lambda waiter: backend in waiter.backends)

    def fleet_changed(self) -> None:
        """Let everybody try again: other backends may have the model now."""
        while self._offer(lambda _: True):
            pass

    def _offer(self, is_meant: Callable[[_Waiter[T]], bool]) -> bool:
        for lane in (self._high, self._normal):
            for waiter in lane:
                if waiter.future.done() or not is_meant(waiter):
                    continue
                try:
                    found = waiter.try_now()
                except RequestError as exc:
                    waiter.future.set_exception(exc)
                    found = None
                if found is not None:
                    waiter.future.set_result(found)
                if waiter.future.done():
                    lane.remove(waiter)
                    return True
        return False

    def _retry_after_s(self) -> int:
        """A guess that grows with the line: whoever comes back then finds it shorter."""
        return max(1, min(30, round(self._max_wait_s * (len(self) + 1) / max(1, self._max_size))))
