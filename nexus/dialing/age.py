"""Limits the age of connections, because only a new one goes to the current address of its backend."""

import random
from time import monotonic
from typing import Final

MAX_AGE_S: Final = 300.0
JITTER: Final = 0.1
"""The share by which ages vary, so that connections that were opened together do not end together."""


def expiry(max_age_s: float) -> float:
    """Return until when a connection that opens now may be reused, by the monotonic clock."""
    return monotonic() + max_age_s * (1 - JITTER * random.random())  # noqa: S311 - not a secret
