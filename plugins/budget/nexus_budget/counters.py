"""The counters of the budget since the start of the process, and their metrics."""

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from nexus.api import Measure, Sample
from nexus_budget.costs import Counted
from nexus_budget.money import ZERO

MAX_SERIES: Final = 1000
"""Further models are counted together, so that memory stays bounded."""
OTHER: Final = "other"

Place = tuple[str, str]
"""A backend, and the name of the model there."""


class BudgetCounters:
    """Plain counters; they outlive reloads."""

    def __init__(self) -> None:
        self.costs: dict[Place, Decimal] = {}
        self.attempts: Counter[tuple[str, str, str]] = Counter()
        self.refusals: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.unpriced: Counter[Place] = Counter()

    def settled(self, backend: str, model: str, cost_usd: Decimal, counted: Counted) -> None:
        """Count one attempt."""
        place = (backend, model) if (backend, model) in self.costs or len(self.costs) < MAX_SERIES else (OTHER, OTHER)
        self.costs[place] = self.costs.get(place, ZERO) + cost_usd
        self.attempts[*place, counted] += 1

    def assumed(self, backend: str, model: str) -> bool:
        """Count a request with an assumed price, and return whether it is the first for its model."""
        is_known = (backend, model) in self.unpriced
        place = (backend, model) if is_known or len(self.unpriced) < MAX_SERIES else (OTHER, OTHER)
        self.unpriced[place] += 1
        return self.unpriced[place] == 1

    def measures(self) -> Iterable[Measure]:
        """Return all counters."""
        yield Measure(
            name="nexus_budget_cost_usd",
            documentation="US dollars spent by this process, by backend and model.",
            type="counter",
            samples=tuple(Sample(float(cost), _place(*place)) for place, cost in sorted(self.costs.items())),
        )
        yield Measure(
            name="nexus_budget_attempts",
            documentation="Paid attempts, by backend, by model and by how their tokens were counted.",
            type="counter",
            samples=tuple(
                Sample(count, {**_place(backend, model), "counted": counted})
                for (backend, model, counted), count in sorted(self.attempts.items())
            ),
        )
        yield Measure(
            name="nexus_budget_unpriced",
            documentation="Requests at a price that is only assumed, by backend and model.",
            type="counter",
            samples=tuple(Sample(count, _place(*place)) for place, count in sorted(self.unpriced.items())),
        )
        yield Measure(
            name="nexus_budget_refused",
            documentation="Backends that a request could not have, by the reason; observed ones count as well.",
            type="counter",
            samples=tuple(Sample(count, {"reason": reason}) for reason, count in sorted(self.refusals.items())),
        )
        yield Measure(
            name="nexus_budget_events",
            documentation="What happened to the budget, by the event.",
            type="counter",
            samples=tuple(Sample(count, {"event_type": event}) for event, count in sorted(self.events.items())),
        )


def _place(backend: str, model: str) -> dict[str, str]:
    return {"backend": backend, "model": model}
