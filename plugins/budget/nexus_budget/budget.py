"""All that outlives a reload: the account, the terms in force, the counters. One for each process."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import structlog

from nexus_budget.account import Account
from nexus_budget.book import Book
from nexus_budget.config import BudgetConfig
from nexus_budget.figures import Figures
from nexus_budget.reach import Reach
from nexus_budget.terms import Status, Terms, terms_of
from nexus_budget.tokens import Tokenizer

log = structlog.get_logger("nexus.budget")

_KEY: Final = "budget"
_EVENT_OF: Final = {Status.SOFT: "soft_limit_reached", Status.HARD: "hard_limit_reached"}


def unix_now() -> float:
    """Return this instant; which month it is, people agree on by their calendars."""
    return datetime.now(UTC).timestamp()


class Budget:
    """What the stage, its services and its pages share."""

    def __init__(self, clock: Callable[[], float] = unix_now) -> None:
        self.clock = clock
        self.process_id = uuid4().hex
        self.reach = Reach()
        self.hurry = asyncio.Event()
        """Lets the bookkeeping begin its next round now."""
        self.account = Account(self.reach, self.hurry.set)
        self.figures = Figures()
        self.tokenizer: Tokenizer | None = None
        self.turn = asyncio.Lock()
        """Held by whoever writes to the ledger."""
        self.synced_unix_s: float | None = None
        """When the ledger was read last."""
        self.newest_stage: Any = None
        """Made last, and so of the configuration whose services are asked for next."""
        self._in_force: list[Terms] = []
        self._told: tuple[str, Status] | None = None
        self._is_told_unreachable = False

    @property
    def book(self) -> Book:
        """The book of this month."""
        return self.account.book_at(self.clock())

    @property
    def terms_in_force(self) -> Terms:
        """What was adopted last."""
        return self._in_force[-1]

    def terms(self, config: BudgetConfig) -> Terms:
        """Return the terms in force; those of *config* while nothing is."""
        return self._in_force[-1] if self._in_force else terms_of(config)

    def adopt(self, terms: Terms) -> None:
        """Let *terms* hold from now on, and say when the limit is another one."""
        before = self._in_force[-1] if self._in_force else None
        self._in_force.append(terms)
        if before is not None and before.limit_usd != terms.limit_usd:
            self._tell_new_limit(before, terms)

    def abandon(self, terms: Terms) -> bool:
        """Let *terms* hold no longer, and say whether they were the last."""
        self._in_force.remove(terms)
        return not self._in_force

    def is_ledger_good(self) -> bool:
        """Whether the ledger can be relied on now; that it no longer can, or can again, is told once."""
        is_good = self.reach.is_good()
        if is_good is self._is_told_unreachable:
            self._is_told_unreachable = not is_good
            if is_good:
                self.figures.events["ledger_reached"] += 1
                log.info("ledger_reached")
            else:
                # Should the ledger be lost, the log has what it said.
                book = self.book
                self.tell(
                    "ledger_unreachable", reason=self.reach.reason, month=book.month, spent_usd=str(book.total_usd)
                )
        return is_good

    def flag_assumed(self, backend: str, model: str) -> None:
        """Count a request at a price that is only assumed; the first one of its kind is told."""
        if self.figures.assumed(backend, model):
            self.tell("price_assumed", backend=backend, model=model)

    def look_around(self) -> None:
        """Tell what has become of the month and of its limits since the last look."""
        if not self._in_force:
            return
        book = self.book
        status = self._in_force[-1].status(book.total_usd)
        told_month, told_status = self._told or (book.month, Status.NORMAL)
        if told_month != book.month:
            self.tell("month_rollover", before=told_month, month=book.month)
            told_status = Status.NORMAL
        if status is not told_status and status in _EVENT_OF:
            limit = self._in_force[-1].limit_usd
            self.tell(_EVENT_OF[status], month=book.month, spent_usd=str(book.total_usd), limit_usd=str(limit))
        self._told = book.month, status

    def tell(self, event: str, **facts: Any) -> None:
        """Log and count *event*."""
        self.figures.events[event] += 1
        log.warning(event, **facts)

    def _tell_new_limit(self, before: Terms, after: Terms) -> None:
        # No limit is the highest there is.
        is_raised = after.limit_usd is None or (before.limit_usd is not None and after.limit_usd > before.limit_usd)
        facts = {"before_usd": _text(before), "after_usd": _text(after)}
        self.tell("limit_increased" if is_raised else "limit_decreased", **facts)


def budget_of(state: dict[str, Any]) -> Budget:
    """Return the budget of this process, made when it is first asked for."""
    budget: Budget = state.setdefault(_KEY, None) or Budget()
    state[_KEY] = budget
    return budget


def _text(terms: Terms) -> str | None:
    return None if terms.limit_usd is None else str(terms.limit_usd)
