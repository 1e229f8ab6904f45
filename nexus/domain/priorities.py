"""The priorities of requests: a client asks for one, and its key may limit it."""

from collections.abc import Mapping
from typing import Final, Literal

RequestPriority = Literal["high", "normal", "low"]

PRIORITIES: Final[tuple[RequestPriority, ...]] = ("high", "normal", "low")
"""Highest first."""
RANKS: Final[Mapping[str, int]] = {priority: rank for rank, priority in enumerate(PRIORITIES)}
"""The place of each priority: 0 is served first."""


def rank_of(asked: str, highest: RequestPriority = "high") -> int:
    """Return the rank of a request whose client asked for the priority *asked*.

    :param asked: as the client sent it; any other text than a priority counts as ``normal``.
    :param highest: the highest priority that the client may have; a higher one is lowered to it.
    """
    return max(RANKS.get(asked.strip().lower(), RANKS["normal"]), RANKS[highest])
