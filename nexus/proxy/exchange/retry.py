"""Whether a failed attempt is tried again, and whether traffic can afford it: decisions only."""

from enum import Enum
from typing import Final

from nexus.domain.backend import Backend
from nexus.domain.statuses import meaning_of
from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError


class Next(Enum):
    """What follows a failed attempt."""

    SAME_BACKEND_FRESH = "same_backend_fresh"
    """Once more, on a fresh connection: the old one was stale and nothing was read from it."""
    ANOTHER_BACKEND = "another_backend"
    GIVE_UP = "give_up"


_NOTHING_SENT: Final = frozenset({UpstreamFault.REFUSED, UpstreamFault.CONNECT_TIMEOUT, UpstreamFault.TLS})
_COSTLY: Final = frozenset({UpstreamFault.STATUS, UpstreamFault.IN_STREAM_ERROR, UpstreamFault.FIRST_BYTE_TIMEOUT})
"""Retries that an overloaded fleet must not be given without limit: they spend from the budget, unless the backend
declined before it began to work."""


class RetryBudget:
    """Keeps retries to a share of the traffic: a token bucket that each request fills a little.

    It holds at least :data:`LEAST` again after :data:`REFILL_S` seconds, so that a quiet proxy can always retry.
    """

    SHARE: Final = 0.2
    LEAST: Final = 3.0
    MOST: Final = 100.0
    REFILL_S: Final = 10.0

    __slots__ = ("_refilled_at", "_tokens")

    def __init__(self) -> None:
        self._tokens = self.LEAST
        self._refilled_at = 0.0

    def earn(self) -> None:
        """Count one request."""
        if self._tokens < self.MOST:
            self._tokens += self.SHARE

    def has_any(self, now_s: float) -> bool:
        """Return whether a retry can be taken now."""
        return self._tokens >= 1.0 or now_s - self._refilled_at >= self.REFILL_S

    def spend(self, now_s: float) -> bool:
        """Take one retry; False when there is none left."""
        if self._tokens < 1.0 and now_s - self._refilled_at >= self.REFILL_S:
            self._tokens = self.LEAST
            self._refilled_at = now_s
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Retries:
    """The retries that one exchange has left."""

    __slots__ = ("_budget", "_has_moved", "_has_redialed", "_has_timed_out", "_left", "_status_500_tried")

    def __init__(self, *, max_retries: int, budget: RetryBudget) -> None:
        self._left = max_retries
        self._budget = budget
        self._has_moved = False
        self._has_redialed = False
        self._has_timed_out = False
        self._status_500_tried = False
        budget.earn()

    def after(self, error: UpstreamError, backend: Backend, *, now_s: float, left_s: float, wait_s: float) -> Next:
        """Decide what follows *error*, which occurred before any byte of the answer had gone to the client.

        :param left_s: what is left of the whole deadline, in seconds.
        :param wait_s: the first-byte deadline of one attempt, in seconds.
        """
        if left_s <= 0:
            return Next.GIVE_UP
        if error.fault is UpstreamFault.STALE and not self._has_redialed:
            self._has_redialed = True
            return Next.SAME_BACKEND_FRESH
        if self._left <= 0 or not self._is_safe(error, backend, left_s=left_s, wait_s=wait_s):
            return Next.GIVE_UP
        if error.fault in _COSTLY and not is_refusal(error) and not self._budget.spend(now_s):
            return Next.GIVE_UP
        self._left -= 1
        return Next.ANOTHER_BACKEND

    def may_move(self, backend: Backend, now_s: float) -> bool:
        """Return whether a request that *backend* does not answer may move to another: once, where that is safe."""
        return not self._has_moved and self._left > 0 and backend.retry_unsafe and self._budget.has_any(now_s)

    def move(self, now_s: float) -> None:
        """Count the move."""
        self._has_moved = True
        self._left -= 1
        self._budget.spend(now_s)

    def _is_safe(self, error: UpstreamError, backend: Backend, *, left_s: float, wait_s: float) -> bool:
        if error.fault in _NOTHING_SENT or is_refusal(error):
            return True
        if not backend.retry_unsafe:
            # The request was sent, so the backend may have worked on it.
            return False
        if error.fault is UpstreamFault.FIRST_BYTE_TIMEOUT:
            # The backend has worked on it for the length of a deadline: once more, not on every backend in turn.
            first, self._has_timed_out = not self._has_timed_out, True
            return first and left_s >= wait_s / 2
        if error.status == 500:
            # Probably caused by the request: one other backend is asked, not more.
            first, self._status_500_tried = not self._status_500_tried, True
            return first
        if error.fault is UpstreamFault.IN_STREAM_ERROR:
            return error.status is None or meaning_of(error.status).fails_over
        return True


def is_refusal(error: UpstreamError) -> bool:
    """Whether the backend declined before it began to work: another attempt then repeats nothing."""
    return error.is_refusal or (error.status is not None and meaning_of(error.status).is_refusal)
