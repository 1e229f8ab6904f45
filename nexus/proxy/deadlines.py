"""Runs deadlines that seldom expire on one timer of the event loop, as a timer for each would cost every request."""

import asyncio
from operator import itemgetter
from typing import Protocol


class Waiter(Protocol):
    """Waits until a deadline."""

    def give_up_waiting(self) -> None: ...


class Deadlines:
    """All waiters and their deadlines, by the clock of the event loop."""

    __slots__ = ("_due", "_loop", "_timer", "_wakes_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: dict[Waiter, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = float("inf")

    def __len__(self) -> int:
        return len(self._due)

    def begin(self, waiter: Waiter, at: float) -> None:
        """Let *waiter* give up at *at*, unless :meth:`end` is called before."""
        self._due[waiter] = at
        if at < self._wakes_at:
            self._wake_at(at)

    def end(self, waiter: Waiter) -> None:
        """Cancel the deadline of *waiter*; the timer may fire all the same, and finds nothing due."""
        self._due.pop(waiter, None)

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = at
        self._timer = self._loop.call_at(at, self._wake)

    def _wake(self) -> None:
        self._timer, self._wakes_at = None, float("inf")
        now = self._loop.time()
        # After a busy time, several are due: the one that is longest overdue comes first.
        due = sorted(((at, waiter) for waiter, at in self._due.items() if at <= now), key=itemgetter(0))
        for _, waiter in due:
            # A waiter that gives up may cancel the deadlines of others.
            if self._due.pop(waiter, None) is not None:
                waiter.give_up_waiting()
        if self._due:
            self._wake_at(min(self._due.values()))
