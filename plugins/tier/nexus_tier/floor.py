"""The lowest tier that may answer a request, from the policies and the headers of the client."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from nexus.api import RoutingIntent
from nexus_tier.config import TierConfig, TierKeys

STRICT: Final = "x-nexus-strict"
FLEXIBLE: Final = "x-nexus-flexible"

MAX_CACHED: Final = 1024
"""Combinations of policies; a model and its fallback may have two different ones."""

Mode = Literal["strict", "flexible"]


class Floor(msgspec.Struct, frozen=True):
    """Two bounds, which differ only if a downgrade is allowed and the client accepts it."""

    mode: Mode
    wanted: int
    """Backends below it are asked only when no other is left."""
    least: int
    """Backends below it are never asked."""
    could_be: int
    """The value of ``least`` for a flexible client."""


class Floors:
    """The floors of one configuration."""

    def __init__(self, config: TierConfig) -> None:
        self._config = config
        self._usual = _lowest([(config.min_tier, config.allow_downgrade)], "strict")
        self._by_policies: dict[tuple[int, ...], tuple[Sequence[Mapping[str, Any]], Floor]] = {}
        """By the identities of policies, of which a configuration has few, those policies and their floor."""

    def of(self, intent: RoutingIntent) -> Floor:
        """Return what *intent* needs. Of several policies that apply, each must be satisfied."""
        if not intent.policies and not intent.headers:
            return self._usual
        if intent.headers:
            return self._find(intent)
        key = tuple(map(id, intent.policies))
        known = self._by_policies.get(key)
        if known is None:
            if len(self._by_policies) >= MAX_CACHED:
                self._by_policies.clear()
            known = self._by_policies[key] = intent.policies, self._find(intent)
        return known[1]

    def _find(self, intent: RoutingIntent) -> Floor:
        config = self._config
        demands = [_demand(keys, config) for keys in intent.policies_of("tier")]
        return _lowest(demands or [(config.min_tier, config.allow_downgrade)], mode_of(intent.headers))

    def highest(self, policies: Iterable[Mapping[str, Any]]) -> int:
        """Return the highest tier that a client without headers may need.

        :param policies: the keys of each traffic policy, by plugin.
        """
        demands = [_demand(keys["tier"], self._config) for keys in policies if "tier" in keys]
        return max([self._config.min_tier, *(min_tier for min_tier, _ in demands)])


def _lowest(demands: Sequence[tuple[int, bool]], mode: Mode) -> Floor:
    wanted = max(min_tier for min_tier, _ in demands)
    could_be = max((min_tier for min_tier, allows_downgrade in demands if not allows_downgrade), default=1)
    return Floor(mode, wanted, could_be if mode == "flexible" else wanted, could_be)


def mode_of(headers: Mapping[str, str]) -> Mode:
    """Return whether the client accepts a downgrade.

    ``X-Nexus-Strict`` wins, and any value except ``false`` counts as true.
    """
    is_strict = headers.get(STRICT, "false").strip().lower() != "false"
    is_flexible = headers.get(FLEXIBLE, "false").strip().lower() == "true"
    return "flexible" if is_flexible and not is_strict else "strict"


def _demand(keys: TierKeys, config: TierConfig) -> tuple[int, bool]:
    min_tier = config.min_tier if keys.min_tier is None else keys.min_tier
    return min_tier, config.allow_downgrade if keys.allow_downgrade is None else keys.allow_downgrade
