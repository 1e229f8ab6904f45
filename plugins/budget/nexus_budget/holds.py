"""The holds of the stage: reserved money for an attempt until its cost is known, and response headers."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from nexus.api import AttemptOutcome, Hold, TokenUsage
from nexus_budget.account import Reservation
from nexus_budget.budget import Budget
from nexus_budget.costs import Estimate, spent
from nexus_budget.money import ZERO
from nexus_budget.terms import Status, Terms
from nexus_budget.tokens import TextMeter

COST: Final = "X-Nexus-Cost-Estimated"
STATUS: Final = "X-Nexus-Budget-Status"
UTILIZATION: Final = "X-Nexus-Budget-Utilization"
REMAINING: Final = "X-Nexus-Budget-Remaining"


class PaidHold(Hold):
    """The reserved money for one attempt at a paid backend."""

    __slots__ = ("_budget", "_cost_usd", "_estimate", "_extra_headers", "_meter", "_reservation")

    def __init__(
        self,
        budget: Budget,
        reservation: Reservation,
        estimated: Estimate,
        *,
        model: str,
        extra_headers: Mapping[str, str],
    ) -> None:
        """:param extra_headers: the headers with the state of the month."""
        self._budget = budget
        self._reservation = reservation
        self._estimate = estimated
        self._meter = TextMeter(model, budget.tokenizer)
        self._extra_headers = extra_headers
        self._cost_usd: Decimal | None = None

    def listener(self) -> Callable[[str], None]:
        return self._meter.add

    def headers(self, usage: TokenUsage | None) -> Mapping[str, str]:
        rate, cost = self._estimate.rate, self._estimate.cost_usd
        if usage is not None and usage.total_tokens:
            cost = rate.cost(usage.prompt_tokens or self._estimate.prompt_tokens, usage.completion_tokens)
        return {COST: f"{cost:.4f}", **self._extra_headers}

    def settle(self, outcome: AttemptOutcome) -> None:
        cost, counted = spent(outcome, self._estimate, self._meter)
        self._reservation.settle(cost)
        self._cost_usd = cost
        if counted != "nothing":
            self._budget.counters.settled(outcome.backend, outcome.model, cost, counted)

    def cost_usd(self) -> float | None:
        return None if self._cost_usd is None else float(self._cost_usd)


class HeadersHold(Hold):
    """Only the headers with the state of the month, for a free answer."""

    __slots__ = ("_extra_headers",)

    def __init__(self, extra_headers: Mapping[str, str]) -> None:
        self._extra_headers = extra_headers

    def headers(self, usage: TokenUsage | None) -> Mapping[str, str]:
        del usage
        return self._extra_headers

    def settle(self, outcome: AttemptOutcome) -> None:
        del outcome


def month_headers(terms: Terms, spent_usd: Decimal) -> Mapping[str, str]:
    """Return the headers with the state of the month; none while spending is normal."""
    status = terms.status(spent_usd)
    if status is Status.NORMAL or terms.limit_usd is None:
        return {}
    return {
        STATUS: status.value,
        UTILIZATION: f"{terms.percent(spent_usd):.2f}",
        REMAINING: f"{max(terms.limit_usd - spent_usd, ZERO):.2f}",
    }
