"""The background work: enters spending, draws money ahead, and books what killed processes had drawn."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from time import monotonic
from types import TracebackType
from typing import Any, Final

from nexus.api import ConfigError, Store, StoreError, tasks
from nexus_budget.book import Book, next_draw
from nexus_budget.budget import Budget
from nexus_budget.ledger import Ledger
from nexus_budget.ledger_health import MAX_CALL_S
from nexus_budget.liveness import Liveness
from nexus_budget.money import ZERO
from nexus_budget.months import month_of
from nexus_budget.recovery import HOLD_INTERVALS, restore
from nexus_budget.terms import Terms
from nexus_budget.tokens import installed_tokenizer

AHEAD_S: Final = 60.0
"""Before a month begins, its money is drawn this early."""
DEAD_AFTER_S: Final = 30.0
"""A process whose entry has not changed for this long counts as dead."""
CHECK_OTHERS_S: Final = 5.0
MAX_ROUND_S: Final = 10.0
"""Limits the start when the store hangs."""
MAX_LAST_ROUND_S: Final = 2.0
"""The same for each step of the shutdown: Nexus cancels a service that takes 5 s to end."""


def refuse_forgetful(limit_usd: Decimal | None, store: Store) -> None:
    """Raise ConfigError if there is a limit and *store* forgets the spending at a restart."""
    if limit_usd is not None and not store.survives_restart:
        raise ConfigError(
            "a limit is set, but the store forgets at a restart what was spent",
            key="monthly_limit_usd",
            hint='set kind = "sqlite" in [store], or "redis" with nexus-proxy-redis',
        )


class Bookkeeping:
    """A service of Nexus; two of them overlap at a reload, and take turns."""

    def __init__(
        self, budget: Budget, terms: Terms, store: Store, *, interval_s: float, wake: Callable[[], None]
    ) -> None:
        self._budget = budget
        self._terms = terms
        self._store = store
        self._ledger = Ledger(store, budget.process_id)
        self._interval_s = interval_s
        self._wake = wake
        self._is_ending = False
        self._task: asyncio.Task[Any] | None = None
        self._liveness = Liveness(max(DEAD_AFTER_S, 10 * interval_s))
        self._checked_at = float("-inf")
        self._others_want = False
        self._restored_at = float("-inf")

    async def __aenter__(self) -> None:
        # At a reload, the store is still that of the old configuration.
        refuse_forgetful(self._terms.limit_usd, self._store)
        if self._budget.tokenizer is None:
            self._budget.tokenizer = await asyncio.to_thread(installed_tokenizer)
        self._budget.adopt(self._terms)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(MAX_ROUND_S):
                    await self._round()
        except BaseException:
            # ``__aexit__`` is not called, for example if a reload is cancelled here.
            await self._give_up()
            raise
        self._task = tasks.keep_running(self._run, name="budget-bookkeeping")

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_ending = True
        self._budget.sync_now.set()
        if self._task is not None:
            # Do not interrupt an entry, unless the store hangs.
            await asyncio.wait({self._task}, timeout=MAX_LAST_ROUND_S)
            await tasks.stop(self._task)
        await self._give_up()

    async def _give_up(self) -> None:
        if self._budget.abandon(self._terms):
            await self._close_all()

    async def _run(self) -> None:
        while not self._is_ending:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._budget.sync_now.wait()
            self._budget.sync_now.clear()
            if not self._is_idle() or monotonic() >= self._checked_at + CHECK_OTHERS_S:
                await self._round()

    def _is_idle(self) -> bool:
        """Whether there is no limit to keep and nothing to enter: only the spending of others is read then."""
        budget = self._budget
        is_limited = budget.terms_in_force.limit_usd is not None
        return (
            not is_limited and budget.ledger_health.is_good() and all(b.is_idle for b in budget.account.books.values())
        )

    async def _round(self) -> None:
        """Synchronize books and ledger, and wake up requests that wait for money."""
        budget = self._budget
        slow = asyncio.get_running_loop().call_later(MAX_CALL_S + 0.1, self._on_slow_store)
        try:
            async with budget.ledger_lock:
                books = self._books()
                for book in books:
                    await self._restore(book)
                # What was asked for until now is drawn in this round; another one would give it back.
                budget.sync_now.clear()
                for book in books:
                    await self._balance(book)
                await self._check_others()
        except StoreError:
            is_failed = True
        else:
            is_failed = False
            budget.synced_unix_s = budget.clock()
            budget.log_changes()
        finally:
            slow.cancel()
        budget.is_ledger_reachable()
        if budget.account.pop_waiting() or is_failed:
            self._wake()

    def _on_slow_store(self) -> None:
        """Wake up waiting requests, because the store takes too long."""
        self._budget.is_ledger_reachable()
        self._wake()

    def _books(self) -> list[Book]:
        now = self._budget.clock()
        account = self._budget.account
        current = {month_of(now), month_of(now + AHEAD_S)}
        return [account.book_of(month) for month in sorted({*current, *account.books})]

    async def _balance(self, book: Book) -> None:
        now = self._budget.clock()
        terms, account = self._budget.terms_in_force, self._budget.account
        with self._budget.ledger_health.watching():
            if book.ends_unix_s <= now and not book.reserved_usd and not book.short_usd:
                await self._ledger.close(book)
                if book.is_idle:
                    account.forget(book)
                return
            allowance, ceiling = terms.allowance_usd, terms.ceiling_usd
            # What to draw depends on whether the last entry was made.
            await self._ledger.resolve(book)
            if not book.is_read:
                await self._ledger.read(book)
            draw = next_draw(book, allowance, ceiling, others_want=self._others_want)
            if draw > 0 and monotonic() < self._restored_at + HOLD_INTERVALS * self._interval_s:
                draw = ZERO
            if draw < 0 and not book.excess_usd:
                book.set_aside(-draw)
            if draw or not book.is_idle:
                await self._ledger.enter(book, draw, ceiling)
            else:
                await self._ledger.read(book)

    async def _restore(self, book: Book) -> None:
        """Enter again what the store has lost, if it has lost any of this process's entries."""
        with self._budget.ledger_health.watching():
            await self._ledger.resolve(book)
            missing = await restore(self._store, self._budget.process_id, book)
        if missing is not None:
            self._restored_at = monotonic()
            self._budget.warn("ledger_restored", month=book.month, spent_usd=str(missing))

    async def _check_others(self) -> None:
        now = monotonic()
        if now < self._checked_at + CHECK_OTHERS_S:
            return
        self._checked_at = now
        with self._budget.ledger_health.watching():
            others = await self._ledger.others()
            month = self._budget.book.month
            self._budget.account.replicas = 1 + sum(m == month for m, _ in others)
            self._others_want = any(entry.wanted_usd for (m, _), entry in others.items() if m == month)
            for key in self._liveness.dead(others, now):
                entry = others[key]
                if await self._ledger.count_as_spent(*key, entry) and entry.drawn_usd:
                    self._budget.warn("allowance_lost", month=key[0], amount_usd=str(entry.drawn_usd))

    async def _close_all(self) -> None:
        """Give back everything drawn. If that fails, it stays drawn and others count it as spent."""
        account = self._budget.account
        try:
            async with asyncio.timeout(MAX_LAST_ROUND_S), self._budget.ledger_lock:
                for book in list(account.books.values()):
                    if book.reserved_usd:
                        await self._ledger.enter(book, -book.excess_usd, None)
                    else:
                        await self._ledger.close(book)
                        account.forget(book)
        except (StoreError, TimeoutError) as exc:
            self._budget.warn("ledger_unreachable", reason=str(exc) or "it does not answer")
