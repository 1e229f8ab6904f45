"""Whether the ledger is reachable: its store answers, and in time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

MAX_CALL_S: Final = 2.0
"""A store that takes longer counts as unreachable."""


class LedgerHealth:
    """Observes every call of the store."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.failure: str | None = None
        """Why the last call failed; None if it succeeded."""
        self.failures_total = 0
        self._clock = clock
        self._began_at: float | None = None

    def is_good(self) -> bool:
        """Return whether the last call succeeded and the current one does not take too long."""
        # Mostly, no call is under way; asked for each request.
        return self.failure is None and (self._began_at is None or not self.is_slow)

    @property
    def is_slow(self) -> bool:
        """Whether the current call takes too long."""
        return self._began_at is not None and self._clock() - self._began_at > MAX_CALL_S

    @property
    def reason(self) -> str:
        """Why the ledger is unreachable."""
        return self.failure or f"it has not answered for {MAX_CALL_S:g} s"

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Observe the calls within."""
        self._began_at = self._clock()
        try:
            yield
        except Exception as exc:
            self.failure = str(exc) or type(exc).__name__
            self.failures_total += 1
            raise
        finally:
            self._began_at = None
        self.failure = None
