"""Waits for a response to begin; a request that waits for its turn in the backend's own queue is not late."""

import asyncio
from collections.abc import Callable
from math import inf
from operator import itemgetter
from time import monotonic
from typing import Final

import msgspec

from nexus.domain.backend import Backend
from nexus.domain.model_load import ModelLoad
from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.exchange.response import Response

USUAL_SLOTS: Final = 16
"""Taken for a backend's slots when they are not known: with fewer requests in flight, none waits for its turn."""
FIRST_LOOK_S: Final = 1.0
"""After how long to look for the first time whether another backend should answer instead."""
CHECK_S: Final = 1.0
"""How soon to look again while streams of the model flow there."""


Look = Callable[[float], float]
"""Looks whether another backend should answer instead, and if so, ends the wait; returns when to look again."""


async def begun(  # noqa: PLR0913 - the response, where it is awaited from, and what ends the wait
    attempt: Attempt,
    response: Response,
    deadlines: "Deadlines",
    *,
    wait_s: float,
    last_at: float,
    look: Look | None = None,
) -> None:
    """Return when *response* may go to the client.

    :param wait_s: how long the backend may go without beginning or ending an answer for the model.
    :param last_at: when the whole exchange must be over, by the clock of the loop.
    :raises UpstreamError: it did not begin in time, or failed.
    """
    wait = begin_wait(attempt, response, deadlines, wait_s=wait_s, last_at=last_at, look=look, now=monotonic())
    try:
        await response.ready
    finally:
        deadlines.end(wait)
    if response.mode != "events":
        attempt.begin_answer(monotonic())
    elif response.content_at is None:
        # Only comments or lifecycle events have arrived: the request may still be waiting for its turn.
        response.on_content = attempt.begin_flowing
    else:
        attempt.begin_flowing(response.content_at)


class FirstByteWait(msgspec.Struct, eq=False):
    """Extends the wait while the backend works on other requests for the same model, and has more than slots."""

    attempt: Attempt
    response: Response
    deadlines: "Deadlines"
    wait_s: float
    last_at: float
    late_at: float
    look: Look | None
    look_at: float

    def give_up_waiting(self) -> None:
        """Fail the response, have another backend answer, or wait on."""
        now = self.response.loop.time()
        if now >= self.late_at:
            backend = self.attempt.backend
            figures = backend.load.model(self.attempt.reserved.model)
            self.late_at = min(turn_until(backend, figures, self.wait_s, now), self.last_at)
            if self.late_at <= now:
                self.response.give_up_waiting()
                return
        if self.look is not None and now >= self.look_at:
            self.look_at = self.look(now)
            if self.response.ready.done():
                return
        self.deadlines.begin(self, min(self.late_at, self.look_at))


def begin_wait(  # noqa: PLR0913 - as above
    attempt: Attempt,
    response: Response,
    deadlines: "Deadlines",
    *,
    wait_s: float,
    last_at: float,
    look: Look | None,
    now: float,
) -> FirstByteWait:
    """Return a wait that begins *now* and lasts until it expires, or is ended at *deadlines*."""
    # Not min(): a call costs as much as ten comparisons.
    late_at, look_at = now + wait_s, inf if look is None else now + FIRST_LOOK_S
    late_at = late_at if late_at < last_at else last_at
    wait = FirstByteWait(attempt, response, deadlines, wait_s, last_at, late_at, look, look_at)
    deadlines.begin(wait, late_at if late_at < look_at else look_at)
    return wait


def turn_until(backend: Backend, figures: ModelLoad, wait_s: float, now: float) -> float:
    """Return until when a request may be waiting for its turn at *backend*; *now* or earlier when it is not.

    :param figures: those of the model that the request is for.
    :param wait_s: how long the backend may go without beginning or ending an answer for the model.
    """
    if backend.load.everywhere <= (backend.slots or USUAL_SLOTS):
        return now
    flowing_until = now + min(CHECK_S, wait_s) if figures.flowing else now
    return max(flowing_until, figures.progressed_at + wait_s)


class Deadlines:
    """The waits of all exchanges, on one timer of the event loop: one for each would cost every request."""

    __slots__ = ("_due", "_loop", "_timer", "_wakes_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: dict[FirstByteWait, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = float("inf")

    def __len__(self) -> int:
        return len(self._due)

    def begin(self, wait: "FirstByteWait", at: float) -> None:
        """Let *wait* give up at *at*, unless :meth:`end` is called before."""
        self._due[wait] = at
        if at < self._wakes_at:
            self._wake_at(at)

    def end(self, wait: "FirstByteWait") -> None:
        """Cancel the deadline of *wait*; the timer may fire all the same, and finds nothing due."""
        self._due.pop(wait, None)

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = at
        self._timer = self._loop.call_at(at, self._wake)

    def _wake(self) -> None:
        self._timer, self._wakes_at = None, float("inf")
        now = self._loop.time()
        # After a busy time, several are due: the one that is longest overdue comes first.
        due = sorted(((at, wait) for wait, at in self._due.items() if at <= now), key=itemgetter(0))
        for _, wait in due:
            # A wait that gives up may cancel the deadlines of others.
            if self._due.pop(wait, None) is not None:
                wait.give_up_waiting()
        if self._due:
            self._wake_at(min(self._due.values()))
