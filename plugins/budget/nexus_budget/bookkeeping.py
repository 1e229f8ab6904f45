"""The work in the background: enters what was spent, draws what will be, and counts what killed processes had drawn."""

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
from nexus_budget.months import month_of
from nexus_budget.reach import PATIENCE_S
from nexus_budget.terms import Terms
from nexus_budget.tokens import installed_tokenizer
from nexus_budget.watch import Watch

AHEAD_S: Final = 60.0
"""How long before a month begins its money is drawn."""
DEAD_AFTER_S: Final = 30.0
"""A process whose entry has not changed for so long is gone, or sleeps very deeply."""
LOOK_AROUND_S: Final = 5.0
LONGEST_ROUND_S: Final = 10.0
"""A store that hangs keeps the start waiting for no longer."""
LAST_ROUND_S: Final = 2.0
"""The same for each step of the end: Nexus cancels a service that takes 5 s to be left."""


def refuse_forgetful(limit_usd: Decimal | None, store: Store) -> None:
    """Raise ConfigError for a limit whose spending *store* would forget at a restart."""
    if limit_usd is not None and not store.survives_restart:
        raise ConfigError(
            "a limit is set, but the store forgets at a restart what was spent",
            key="monthly_limit_usd",
            hint='set kind = "sqlite" in [store]',
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
        self._watch = Watch(max(DEAD_AFTER_S, 10 * interval_s))
        self._looked_at = float("-inf")
        self._others_want = False

    async def __aenter__(self) -> None:
        # At a reload it is not the store that the new configuration asks for.
        refuse_forgetful(self._terms.limit_usd, self._store)
        if self._budget.tokenizer is None:
            self._budget.tokenizer = await asyncio.to_thread(installed_tokenizer)
        self._budget.adopt(self._terms)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_ROUND_S):
                    await self._round()
        except BaseException:
            # What is not entered is not left either: a stop in the middle of a reload, for one.
            await self._give_up()
            raise
        self._task = tasks.keep_running(self._run, name="budget-bookkeeping")

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_ending = True
        self._budget.hurry.set()
        if self._task is not None:
            # It is not interrupted in the middle of an entry, unless the store hangs.
            await asyncio.wait({self._task}, timeout=LAST_ROUND_S)
            await tasks.stop(self._task)
        await self._give_up()

    async def _give_up(self) -> None:
        if self._budget.abandon(self._terms):
            await self._close_all()

    async def _run(self) -> None:
        while not self._is_ending:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._budget.hurry.wait()
            self._budget.hurry.clear()
            await self._round()

    async def _round(self) -> None:
        """Bring ledger and books together; whoever waits for money is let try again."""
        budget = self._budget
        slow = asyncio.get_running_loop().call_later(PATIENCE_S + 0.1, self._say_how_it_goes)
        try:
            async with budget.turn:
                for book in self._books():
                    await self._balance(book)
                await self._look_at_others()
        except StoreError:
            is_failed = True
        else:
            is_failed = False
            budget.synced_unix_s = budget.clock()
            budget.look_around()
        finally:
            slow.cancel()
        budget.is_ledger_good()
        if budget.account.take_awaited() or is_failed:
            self._wake()

    def _say_how_it_goes(self) -> None:
        """Tell those who wait that the store takes too long."""
        self._budget.is_ledger_good()
        self._wake()

    def _books(self) -> list[Book]:
        now = self._budget.clock()
        account = self._budget.account
        current = {month_of(now), month_of(now + AHEAD_S)}
        return [account.book_of(month) for month in sorted({*current, *account.books})]

    async def _balance(self, book: Book) -> None:
        now = self._budget.clock()
        terms, account = self._budget.terms_in_force, self._budget.account
        with self._budget.reach.watching():
            if book.ends_unix_s <= now and not book.reserved_usd and not book.short_usd:
                await self._ledger.close(book)
                if book.is_idle:
                    account.forget(book)
                return
            allowance, ceiling = terms.allowance_usd, terms.ceiling_usd
            # What is drawn depends on what was entered, of which the last time may have told nothing.
            await self._ledger.resolve(book, ceiling)
            if not book.is_read:
                await self._ledger.read(book)
            draw = next_draw(book, allowance, ceiling, others_want=self._others_want)
            if draw < 0 and not book.excess_usd:
                book.set_aside(-draw)
            if draw or not book.is_idle:
                await self._ledger.enter(book, draw, ceiling)
            else:
                await self._ledger.read(book)

    async def _look_at_others(self) -> None:
        now = monotonic()
        if now < self._looked_at + LOOK_AROUND_S:
            return
        self._looked_at = now
        with self._budget.reach.watching():
            others = await self._ledger.others()
            month = self._budget.book.month
            self._others_want = any(entry.wanted_usd for (m, _), entry in others.items() if m == month)
            for whose in self._watch.gone(others, now):
                entry = others[whose]
                if await self._ledger.count_as_spent(*whose, entry) and entry.drawn_usd:
                    self._budget.tell("allowance_lost", month=whose[0], amount_usd=str(entry.drawn_usd))

    async def _close_all(self) -> None:
        """Leave nothing drawn behind. What cannot be entered any more stays drawn, and others count it as spent."""
        account = self._budget.account
        try:
            async with asyncio.timeout(LAST_ROUND_S), self._budget.turn:
                for book in list(account.books.values()):
                    if book.reserved_usd:
                        await self._ledger.enter(book, -book.excess_usd, None)
                    else:
                        await self._ledger.close(book)
                        account.forget(book)
        except (StoreError, TimeoutError) as exc:
            self._budget.tell("ledger_unreachable", reason=str(exc) or "it does not answer")
