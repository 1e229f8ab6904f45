"""The lowest limit of the cost of a request, of all policies that apply to it."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from nexus.api import RoutingIntent

MAX_CACHED: Final = 1024
"""Combinations of policies; a model and its fallback may have two different ones."""


class Ceilings:
    """The limits of one configuration, found once for each combination of its policies."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], tuple[Sequence[Mapping[str, Any]], Decimal | None]] = {}
        """By the identities of policies, those policies and their limit."""

    def lowest(self, intent: RoutingIntent) -> Decimal | None:
        """Return the lowest limit for *intent*; None if no policy has one."""
        key = tuple(map(id, intent.policies))
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= MAX_CACHED:
                self._known.clear()
            limits = [keys.max_cost_per_request for keys in intent.policies_of("budget")]
            lowest = min((limit for limit in limits if limit is not None), default=None)
            known = self._known[key] = intent.policies, lowest
        return known[1]
