"""The wait for an answer to begin, at a backend that queues by itself: what waits for its turn there is not late."""

from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final

from nexus.domain.backend import Backend
from nexus.domain.model_load import ModelLoad
from nexus.proxy.deadlines import Deadlines
from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.exchange.expected_response import Mode
from nexus.proxy.exchange.response import Response

USUAL_SLOTS: Final = 16
"""Where nothing is known of a backend's slots: with fewer requests in flight, none of them waits for its turn."""
FIRST_LOOK_S: Final = 1.0
"""After how long to look for the first time whether another backend should answer instead."""
CHECK_S: Final = 1.0
"""How soon to look again while streams of the model flow there."""


Look = Callable[[float], float]
"""Looks whether another backend should answer instead, and if so, ends the waiting; returns when to look again."""


async def begun(  # noqa: PLR0913 - the answer, where it is awaited from, and what ends the waiting
    attempt: Attempt,
    response: Response,
    deadlines: Deadlines,
    *,
    wait_s: float,
    last_at: float,
    look: Look | None = None,
) -> None:
    """Return when *answer* may go to the client.

    :param wait_s: how long the backend may go without beginning or ending an answer for the model.
    :param last_at: when the whole exchange must be over, by the clock of the loop.
    :raises UpstreamError: it did not begin in time, or failed.
    """
    turn = FirstByteWait(
        deadlines, response, attempt.backend, attempt.reserved.model, wait_s=wait_s, last_at=last_at, look=look
    )
    turn.begin(monotonic())
    try:
        await response.ready
    finally:
        turn.end()
    if response.mode is not Mode.EVENTS:
        attempt.begin_answer(monotonic())
        return
    if response.content_at is None:
        # Only comments or lifecycle events have come: it may still be waiting for its turn.
        response.on_content = attempt.begin_flowing
    else:
        attempt.begin_flowing(response.content_at)


class FirstByteWait:
    """Lets an answer begin late as long as the backend is at work on others for the same model, and has more requests
    than slots.
    """

    __slots__ = (
        "_answer",
        "_backend",
        "_deadlines",
        "_figures",
        "_last_at",
        "_late_at",
        "_look",
        "_look_at",
        "_wait_s",
    )

    def __init__(  # noqa: PLR0913 - the answer, where it is awaited from, and what ends the waiting
        self,
        deadlines: Deadlines,
        response: Response,
        backend: Backend,
        model: str,
        *,
        wait_s: float,
        last_at: float,
        look: Look | None = None,
    ) -> None:
        self._deadlines = deadlines
        self._answer = response
        self._backend = backend
        self._figures: ModelLoad = backend.load.model(model)
        self._wait_s = wait_s
        self._last_at = last_at
        self._late_at = last_at
        self._look = look
        self._look_at = inf

    def begin(self, now: float) -> None:
        """Begin to wait at *now*."""
        self._late_at = min(now + self._wait_s, self._last_at)
        if self._look is not None:
            self._look_at = now + FIRST_LOOK_S
        self._deadlines.begin(self, min(self._late_at, self._look_at))

    def end(self) -> None:
        self._deadlines.end(self)

    def give_up_waiting(self) -> None:
        now = self._answer.loop.time()
        if now >= self._late_at:
            self._late_at = min(turn_until(self._backend, self._figures, self._wait_s, now), self._last_at)
            if self._late_at <= now:
                self._answer.give_up_waiting()
                return
        if self._look is not None and now >= self._look_at:
            self._look_at = self._look(now)
            if self._answer.ready.done():
                return
        self._deadlines.begin(self, min(self._late_at, self._look_at))


def turn_until(backend: Backend, figures: ModelLoad, wait_s: float, now: float) -> float:
    """Return until when a request may be waiting for its turn at *backend*, *now* or earlier when it is not.

    :param figures: of the model that it is for.
    :param wait_s: how long the backend may go without beginning or ending an answer for the model.
    """
    if backend.load.in_flight <= (backend.slots or USUAL_SLOTS):
        return now
    flowing_until = now + min(CHECK_S, wait_s) if figures.flowing else now
    return max(flowing_until, figures.progressed_at + wait_s)
