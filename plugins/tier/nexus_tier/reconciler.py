"""The tier stage: excludes backends that are too weak for a request, or avoids them if a downgrade is allowed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from nexus.api import AttemptOutcome, Backend, Ending, Hold, Measure, Priority, Reconciler, RoutingIntent, TokenUsage
from nexus_tier.config import TierConfig
from nexus_tier.counters import TierCounters
from nexus_tier.floor import STRICT, Floor, Floors

LOWEST: Final = 1
HIGHEST: Final = 5


class TierReconciler(Reconciler):
    """Excludes backends below the tier that a request needs. If the stage fails, the request is rejected."""

    name = "tier"
    priority = Priority.TIER
    on_error = "reject"
    depends_on = frozenset()

    def __init__(self, config: TierConfig, counters: TierCounters) -> None:
        self._floors = Floors(config)
        self._counters = counters
        self._highest = HIGHEST
        """The highest tier that a request may want, as far as is known."""

    def reconcile(self, intent: RoutingIntent) -> None:
        floor = self._floors.of(intent)
        if floor.wanted == LOWEST:
            return
        for backend in intent:
            tier = intent.tier_of(backend)
            if tier < floor.least:
                self._exclude(intent, backend, tier, floor)
            elif tier < floor.wanted:
                self._avoid(intent, backend, tier, floor)

    def is_idle(self, policies: Sequence[Mapping[str, Any]]) -> bool:
        self._highest = self._floors.highest(policies)
        return self._highest == LOWEST

    def may_hold(self, backend: Backend, model: str) -> bool:
        # No header raises the tier that is wanted.
        return backend.tier_of(model) < self._highest

    def may_count(self, intent: RoutingIntent) -> bool:
        return self._floors.of(intent).wanted > LOWEST

    def count(self, intent: RoutingIntent) -> None:
        floor = self._floors.of(intent)
        if floor.wanted > LOWEST:
            self._counters.note(intent, floor.mode)

    def reserve(self, intent: RoutingIntent, backend: Backend) -> Hold | None:
        tier = intent.tier_of(backend)
        return Downgrade(tier, self._counters) if tier < self._floors.of(intent).wanted else None

    def explain(self, intent: RoutingIntent) -> Mapping[str, Any]:
        floor = self._floors.of(intent)
        return {
            "mode": floor.mode,
            "min_tier": floor.wanted,
            "least_tier": floor.least,
            "tiers": {backend.name: intent.tier_of(backend) for backend in intent},
        }

    def measures(self) -> Iterable[Measure]:
        return self._counters.measures()

    def _exclude(self, intent: RoutingIntent, backend: Backend, tier: int, floor: Floor) -> None:
        intent.exclude(
            backend,
            stage=self.name,
            reason=_shortfall(intent, tier, floor.least),
            action=f"Use a backend of tier {floor.least} or higher, or {_way_out(tier, floor, intent.headers)}",
            context={"required_tier": floor.least},
        )

    def _avoid(self, intent: RoutingIntent, backend: Backend, tier: int, floor: Floor) -> None:
        intent.avoid(
            backend,
            stage=self.name,
            reason=f"{_shortfall(intent, tier, floor.wanted)}: only if no better one is left",
        )


class Downgrade(Hold):
    """An attempt at a backend below the wanted tier: adds a header to the answer and counts it."""

    __slots__ = ("_counters", "_tier")

    def __init__(self, tier: int, counters: TierCounters) -> None:
        self._tier = tier
        self._counters = counters

    def headers(self, usage: TokenUsage | None) -> Mapping[str, str]:
        del usage
        return {"X-Nexus-Tier": str(self._tier)}

    def settle(self, outcome: AttemptOutcome) -> None:
        if outcome.ending is Ending.FINISHED:
            self._counters.downgrades += 1


def _shortfall(intent: RoutingIntent, tier: int, minimum: int) -> str:
    model = intent.requested_model or "*"
    return f"Agent capability tier {tier} is below minimum tier {minimum} required by policy for model '{model}'"


def _way_out(tier: int, floor: Floor, headers: Mapping[str, str]) -> str:
    if floor.mode == "flexible" or tier < floor.could_be:
        return "lower min_tier"
    return f"send X-Nexus-Flexible: true{' without X-Nexus-Strict' if STRICT in headers else ''}"
