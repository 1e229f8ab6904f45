"""How old a connection may become: only a new one goes where the name of its backend leads now."""

import random
from time import monotonic
from typing import Final

MAX_AGE_S: Final = 300.0
JITTER: Final = 0.1
"""The share of its age by which a connection may end before others that were opened with it."""


def expiry(max_age_s: float) -> float:
    """Return until when a connection that opens now may be used again, by the monotonic clock."""
    return monotonic() + max_age_s * (1 - JITTER * random.random())  # noqa: S311 - it keeps no secret
