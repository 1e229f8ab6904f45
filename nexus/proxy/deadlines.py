"""Deadlines that seldom pass: one timer of the event loop for all of them, as one for each costs every request."""

import asyncio
from operator import itemgetter
from typing import Protocol


class Late(Protocol):
    """Who is told when its time is over."""

    def give_up_waiting(self) -> None: ...


class Deadlines:
    """Everybody who waits, each with the instant at which that ends, by the clock of the loop."""

    __slots__ = ("_due", "_loop", "_timer", "_wakes_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: dict[Late, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = float("inf")

    def __len__(self) -> int:
        return len(self._due)

    def begin(self, late: Late, at: float) -> None:
        """Let *late* give up at *at*, unless :meth:`end` is called before."""
        self._due[late] = at
        if at < self._wakes_at:
            self._wake_at(at)

    def end(self, late: Late) -> None:
        """Let *late* be; the timer is left as it is, and finds nothing to do."""
        self._due.pop(late, None)

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = at
        self._timer = self._loop.call_at(at, self._wake)

    def _wake(self) -> None:
        self._timer, self._wakes_at = None, float("inf")
        now = self._loop.time()
        # A loop that was busy finds several at once, and the longest overdue comes first.
        due = sorted(((at, late) for late, at in self._due.items() if at <= now), key=itemgetter(0))
        for _, late in due:
            # One that gives up may end others.
            if self._due.pop(late, None) is not None:
                late.give_up_waiting()
        if self._due:
            self._wake_at(min(self._due.values()))
