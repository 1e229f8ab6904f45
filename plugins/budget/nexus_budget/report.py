"""The budget on the admin page, in the context of a refusal, and as gauges."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from nexus.api import Measure, Sample
from nexus_budget.book import Book
from nexus_budget.budget import Budget
from nexus_budget.config import BudgetConfig
from nexus_budget.months import first_day_after
from nexus_budget.terms import STATUS_NUMBERS, Terms

_ACTION_WORDS: Final = {"warn": "Warn", "block_cloud": "BlockCloud", "block_all": "BlockAll"}


def refusal_context(book: Book, terms: Terms) -> Mapping[str, Any]:
    """Return the context of a refusal, which the client sees."""
    return {
        "budget_spending_usd": _cents(book.total_usd),
        "budget_limit_usd": None if terms.limit_usd is None else float(terms.limit_usd),
        "budget_next_reset_date": first_day_after(book.month),
    }


def section(budget: Budget, config: BudgetConfig, prices_as_of: str) -> Mapping[str, Any]:
    """Return the budget for the admin page."""
    terms, book = budget.terms(config), budget.book
    spent = book.total_usd
    synced = budget.synced_unix_s
    return {
        "current_spending_usd": float(spent),
        "monthly_limit_usd": None if terms.limit_usd is None else float(terms.limit_usd),
        "utilization_percent": float(round(terms.percent(spent), 2)),
        "status": terms.status(spent).value,
        "billing_month": book.month,
        "last_reconciliation": None if synced is None else datetime.fromtimestamp(synced, UTC).isoformat(),
        "soft_limit_threshold": float(config.soft_limit_percent),
        "hard_limit_action": _ACTION_WORDS[terms.action],
        "next_reset_date": first_day_after(book.month),
        "reserved_usd": float(book.reserved_usd),
        "allowance_usd": float(book.drawn_usd),
        "committed_usd": float(book.committed_usd),
        "is_ledger_reachable": budget.ledger_health.is_good(),
        "is_enforced": terms.is_enforced,
        "tokenizer": "exact" if budget.tokenizer is not None else "heuristic",
        "prices_as_of": prices_as_of,
    }


def gauges(budget: Budget, config: BudgetConfig) -> Iterable[Measure]:
    """Return the metrics of this month."""
    terms, book = budget.terms(config), budget.book
    spent, month = book.total_usd, {"billing_month": book.month}
    yield _gauge("spending_usd", "US dollars spent in this month by all processes.", float(spent), month)
    if terms.limit_usd is not None:
        yield _gauge("limit_usd", "The monthly limit in US dollars.", float(terms.limit_usd))
        yield _gauge("utilization_percent", "Spending in percent of the limit.", float(terms.percent(spent)), month)
        status = STATUS_NUMBERS[terms.status(spent)]
        yield _gauge("status", "0: normal, 1: soft limit reached, 2: hard limit reached.", status, month)
    yield _gauge("reserved_usd", "US dollars that this process has reserved.", float(book.reserved_usd), across="sum")
    yield _gauge("allowance_usd", "US dollars that this process has drawn ahead.", float(book.drawn_usd), across="sum")
    yield _gauge(
        "ledger_reachable",
        "1: the common ledger can be read and written, 0: not.",
        budget.ledger_health.is_good(),
        across="min",
    )
    yield Measure(
        name="nexus_budget_store_failures",
        documentation="Calls of the store that failed.",
        type="counter",
        samples=(Sample(budget.ledger_health.failures_total),),
    )


def _gauge(
    name: str,
    documentation: str,
    value: float,
    labels: Mapping[str, str] | None = None,
    across: Literal["sum", "max", "min"] = "max",
) -> Measure:
    samples = (Sample(float(value), labels or {}),)
    name = f"nexus_budget_{name}"
    return Measure(name=name, documentation=documentation, type="gauge", samples=samples, across=across)


def _cents(amount: Any) -> float:
    return float(round(amount, 4))
