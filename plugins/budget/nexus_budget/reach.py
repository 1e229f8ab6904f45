"""Whether the ledger can be reached: it answers, and soon enough."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

PATIENCE_S: Final = 2.0
"""A store that takes longer is no help to anybody who would spend now."""


class Reach:
    """Watches every call of the store."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.failure: str | None = None
        """Why the last call failed; None when it did not."""
        self.failures_total = 0
        self._clock = clock
        self._began_at: float | None = None

    def is_good(self) -> bool:
        """Whether the last call went well, and the one under way does not take too long."""
        return self.failure is None and not self.is_slow

    @property
    def is_slow(self) -> bool:
        """Whether a call has been under way for too long."""
        return self._began_at is not None and self._clock() - self._began_at > PATIENCE_S

    @property
    def reason(self) -> str:
        """Say what is wrong."""
        return self.failure or f"it has not answered for {PATIENCE_S:g} s"

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what is done within."""
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
