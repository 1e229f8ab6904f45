"""Decides when the report of a backend is read next."""

from typing import Final

import msgspec

ACTIVE_S: Final = 30.0
"""After the last request of this Nexus to a backend, during which its load is watched closely."""
MAX_READS_PER_S: Final = 50
"""In the whole fleet: with more backends at work, each is read less often."""
MAX_READ_S: Final = 3.0
"""How long one read may take, unless ``health_check.timeout_seconds`` is less."""
JITTER: Final = 0.1
"""The share by which an interval is shortened at random, so that a fleet is not read in one burst."""


class Activity(msgspec.Struct):
    """What has been seen of one backend's requests and probes."""

    requests_total: int = 0
    active_until: float = 0.0
    """Monotonic seconds."""
    checked_at: float | None = None
    """Its last probe when its report was last read, in Unix seconds."""

    def is_active(self, now: float, *, in_flight: int, requests_total: int) -> bool:
        """Return whether requests run there at *now*, or ran there in the last ``ACTIVE_S``."""
        if in_flight or requests_total != self.requests_total:
            self.requests_total, self.active_until = requests_total, now + ACTIVE_S
        return now < self.active_until


def interval_s(configured_s: float, least_s: float, active: int) -> float:
    """Return the time between two reads of a backend at which requests run.

    :param least_s: the least time that its kind allows.
    :param active: how many backends of the fleet have requests.
    """
    return max(configured_s, least_s, active / MAX_READS_PER_S)


def jittered_s(whole_s: float, chance: float) -> float:
    """Return *whole_s*, shortened by up to ``JITTER``. :param chance: a random number from 0 to 1."""
    return whole_s * (1 - JITTER * chance)
