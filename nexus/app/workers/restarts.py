"""When a worker that ended is started again, and when the proxy gives up."""

from typing import Final

import msgspec

FIRST_DELAY_S: Final = 0.5
MAX_DELAY_S: Final = 10.0
STABLE_S: Final = 60.0
"""A worker that has served this long begins again without a delay."""
MAX_FAILED_STARTS: Final = 5
"""How many starts may fail in a row, of any workers, while none serves."""


class Restarts(msgspec.Struct):
    """The delays before the starts of one worker: none at first, then doubled with each end."""

    ends: int = 0
    """How often it ended without having served for :data:`STABLE_S`."""

    def delay_s(self, served_s: float) -> float:
        """Return how long to wait before the next start.

        :param served_s: how long the worker that ended had served; 0.0 if it never did.
        """
        if served_s >= STABLE_S:
            self.ends = 0
        self.ends += 1
        # Bounded before it is computed: 2 ** 2000 is no float.
        doublings = min(self.ends - 2, 10)
        return 0.0 if doublings < 0 else min(FIRST_DELAY_S * 2**doublings, MAX_DELAY_S)


class FailedStarts(msgspec.Struct):
    """Counts starts that failed while no worker served."""

    count: int = 0

    def is_hopeless(self, *, does_any_serve: bool) -> bool:
        """Note a failed start; return whether the proxy gives up."""
        self.count = 0 if does_any_serve else self.count + 1
        return self.count >= MAX_FAILED_STARTS

    def note_ready(self) -> None:
        """Note a start that succeeded."""
        self.count = 0
