"""The state of the plugin, which outlives reloads: the account, the terms in force, the counters."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import structlog

from nexus_budget.account import Account
from nexus_budget.book import Book
from nexus_budget.config import BudgetConfig
from nexus_budget.counters import BudgetCounters
from nexus_budget.ledger_health import LedgerHealth
from nexus_budget.terms import Status, Terms, terms_of
from nexus_budget.tokens import Tokenizer

log = structlog.get_logger("nexus.budget")

_KEY: Final = "budget"
_EVENT_OF: Final = {Status.SOFT: "soft_limit_reached", Status.HARD: "hard_limit_reached"}


def unix_now() -> float:
    """Return the current time by the wall clock, since months are calendar months."""
    return datetime.now(UTC).timestamp()


class Budget:
    """What the stage, the bookkeeping and the admin page share."""

    def __init__(self, clock: Callable[[], float] = unix_now) -> None:
        self.clock = clock
        self.process_id = uuid4().hex
        self.ledger_health = LedgerHealth()
        self.sync_now = asyncio.Event()
        """Starts the next round of the bookkeeping now."""
        self.account = Account(self.ledger_health, self.sync_now.set)
        self.counters = BudgetCounters()
        self.tokenizer: Tokenizer | None = None
        self.ledger_lock = asyncio.Lock()
        """Held during writes to the ledger."""
        self.synced_unix_s: float | None = None
        """When the ledger was read last."""
        self.newest_stage: Any = None
        """The stage of the configuration that is being started."""
        self._in_force: list[Terms] = []
        self._logged: tuple[str, Status] | None = None
        self._is_logged_unreachable = False

    @property
    def book(self) -> Book:
        """The book of this month."""
        return self.account.book_at(self.clock())

    @property
    def terms_in_force(self) -> Terms:
        """The terms that were adopted last."""
        return self._in_force[-1]

    def terms(self, config: BudgetConfig) -> Terms:
        """Return the terms in force, or those of *config* if there are none."""
        return self._in_force[-1] if self._in_force else terms_of(config)

    def adopt(self, terms: Terms) -> None:
        """Apply *terms* from now on, and log a changed limit."""
        before = self._in_force[-1] if self._in_force else None
        self._in_force.append(terms)
        if before is not None and before.limit_usd != terms.limit_usd:
            self._warn_of_new_limit(before, terms)

    def abandon(self, terms: Terms) -> bool:
        """Stop applying *terms*, and return whether they were the last."""
        self._in_force.remove(terms)
        return not self._in_force

    def is_ledger_reachable(self) -> bool:
        """Return whether the ledger is reachable, and log each change once."""
        is_good = self.ledger_health.is_good()
        if is_good is self._is_logged_unreachable:
            self._is_logged_unreachable = not is_good
            if is_good:
                self.counters.events["ledger_reached"] += 1
                log.info("ledger_reached")
            else:
                # If the ledger is lost, the log has the spending.
                book = self.book
                self.warn(
                    "ledger_unreachable",
                    reason=self.ledger_health.reason,
                    month=book.month,
                    spent_usd=str(book.total_usd),
                )
        return is_good

    def flag_assumed(self, backend: str, model: str) -> None:
        """Count a request with an assumed price, and log the first one for each model."""
        if self.counters.assumed(backend, model):
            self.warn("price_assumed", backend=backend, model=model)

    def log_changes(self) -> None:
        """Log a new month and a limit that was reached since the last call."""
        if not self._in_force:
            return
        book = self.book
        status = self._in_force[-1].status(book.total_usd)
        logged_month, logged_status = self._logged or (book.month, Status.NORMAL)
        if logged_month != book.month:
            self.warn("month_rollover", before=logged_month, month=book.month)
            logged_status = Status.NORMAL
        if status is not logged_status and status in _EVENT_OF:
            limit = self._in_force[-1].limit_usd
            self.warn(_EVENT_OF[status], month=book.month, spent_usd=str(book.total_usd), limit_usd=str(limit))
        self._logged = book.month, status

    def warn(self, event: str, **facts: Any) -> None:
        """Log and count *event*."""
        self.counters.events[event] += 1
        log.warning(event, **facts)

    def _warn_of_new_limit(self, before: Terms, after: Terms) -> None:
        # No limit counts as the highest.
        is_raised = after.limit_usd is None or (before.limit_usd is not None and after.limit_usd > before.limit_usd)
        facts = {"before_usd": _text(before), "after_usd": _text(after)}
        self.warn("limit_increased" if is_raised else "limit_decreased", **facts)


def budget_of(state: dict[str, Any]) -> Budget:
    """Return the budget of this process, created at the first call."""
    budget: Budget = state.setdefault(_KEY, None) or Budget()
    state[_KEY] = budget
    return budget


def _text(terms: Terms) -> str | None:
    return None if terms.limit_usd is None else str(terms.limit_usd)
