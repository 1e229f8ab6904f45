"""Whatever the store loses in a fail-over, its processes enter again: nothing is lost, and nothing counts twice."""

import asyncio
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.testing.waiting import eventually as until
from nexus_budget.book import next_draw
from nexus_budget.budget import Budget
from nexus_budget.ledger import Ledger
from nexus_budget.recovery import restore

NOON = 1_777_636_800.0
MAY = "2026-05"
LIMIT = Decimal(100)
BLOCK = {"monthly_limit_usd": 100, "hard_limit_action": "block_cloud"}

spending = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=12)
"""By process, and in tenths of a dollar."""


class Process:
    """One process that spends, and keeps its books."""

    def __init__(self, store):
        self.budget = Budget(lambda: NOON)
        self.store = store
        self.ledger = Ledger(store, self.budget.process_id)
        self.book = self.budget.account.book_at(NOON)

    async def spend(self, tenths):
        self.book.settle(Decimal(0), Decimal(tenths) / 10)
        await self.round()

    async def round(self):
        await self.ledger.resolve(self.book)
        await restore(self.store, self.budget.process_id, self.book)
        await self.ledger.enter(self.book, next_draw(self.book, Decimal(1), LIMIT, others_want=False), LIMIT)


@settings(max_examples=60, deadline=None)
@given(spending, spending, spending, st.booleans())
def test_what_living_processes_spent_is_never_lost(new_store, before, between, after, keeps_some):
    async def live():
        store = new_store()
        processes = [Process(store) for _ in range(3)]
        for index, tenths in before:
            await processes[index].spend(tenths)
        kept = dict(store.entries) if keeps_some else {}
        for index, tenths in between:
            await processes[index].spend(tenths)
        store.entries = kept
        for process in processes:
            await process.round()
        for index, tenths in after:
            await processes[index].spend(tenths)
        for process in processes:
            await process.ledger.close(process.book)
        return store

    store = asyncio.run(live())

    spent = Decimal(sum(tenths for _, tenths in (*before, *between, *after))) / 10
    assert store.number("spent") == store.number("committed") == spent


async def test_what_ended_processes_spent_is_entered_once(store):
    ended = Process(store)
    await ended.spend(50)
    await ended.ledger.close(ended.book)
    living = [Process(store) for _ in range(3)]
    for process in living:
        await process.spend(10)
    for process in living:
        await process.round()
    store.entries = {}

    for process in living:
        await restore(store, process.budget.process_id, process.book)

    assert store.number("spent") == 8


async def test_nothing_is_entered_again_where_nothing_was_lost(store):
    process = Process(store)
    await process.spend(10)
    entries = dict(store.entries)

    assert await restore(store, process.budget.process_id, process.book) is None
    assert store.entries == entries


async def test_a_process_that_was_counted_as_dead_has_lost_nothing(store):
    sleeper, other = Process(store), Process(store)
    await sleeper.round()
    for key, entry in (await other.ledger.others()).items():
        await other.ledger.count_as_spent(*key, entry)

    assert await restore(store, sleeper.budget.process_id, sleeper.book) is None


async def test_a_restore_that_is_interrupted_anywhere_is_made_once(new_store):
    for turns in range(10):
        store = new_store()
        process = Process(store)
        await process.spend(10)
        store.entries = {}
        restoring = asyncio.ensure_future(restore(store, process.budget.process_id, process.book))
        for _ in range(turns):
            await asyncio.sleep(0)
        restoring.cancel()
        await asyncio.gather(restoring, return_exceptions=True)

        await process.round()

        assert store.number("spent") == 1
        assert store.number("committed") == 1 + process.book.drawn_usd


async def test_the_bookkeeping_restores_the_ledger_and_holds_back(store, budget, serve):
    async with serve(budget, interval_s=0.05, **BLOCK):
        budget.account.spend(Decimal(3), NOON)
        await until(lambda: store.number("spent") == 3)
        store.entries = {}

        await until(lambda: budget.counters.events["ledger_restored"] == 1)
        await until(lambda: store.number("spent") == 3)

    assert store.number("committed") == 3
