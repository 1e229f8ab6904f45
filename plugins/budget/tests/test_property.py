"""Whatever happens in whatever order: no more is spent than the budget has, and the ledger forgets nothing."""

import asyncio
import json
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nexus.api import StoreError
from nexus_budget.account import Reservation, Shortfall
from nexus_budget.book import next_draw
from nexus_budget.budget import Budget
from nexus_budget.config import BudgetConfig
from nexus_budget.ledger import Ledger
from nexus_budget.months import bounds
from nexus_budget.terms import terms_of

LIMIT = Decimal(10)
TERMS = terms_of(BudgetConfig(monthly_limit_usd=LIMIT, hard_limit_action="block_cloud"))
MAY, JUNE = "2026-05", "2026-06"
NOON = 1_777_636_800.0
steps = st.tuples(
    st.sampled_from(["reserve", "reserve", "settle", "settle", "round", "round", "cut", "kill", "reclaim", "fail"]),
    st.integers(0, 2),
    st.integers(1, 30),
)


class Process:
    """One process that reserves, settles and keeps its books."""

    def __init__(self, store):
        self.budget = Budget(lambda: NOON)
        self.store = store
        self.ledger = Ledger(store, self.budget.process_id)
        self.book = self.budget.account.book_at(NOON)
        self.open = []

    async def round(self):
        draw = next_draw(self.book, Decimal(1), LIMIT, others_want=False)
        if draw < 0 and not self.book.excess_usd:
            self.book.set_aside(-draw)
        await self.ledger.enter(self.book, draw, LIMIT)


class World:
    """Some processes that share a store, and what they have really spent."""

    def __init__(self, store):
        self.store = store
        self.processes = [Process(self.store) for _ in range(3)]
        self.spent = Decimal(0)
        self.lost = Decimal(0)
        """What killed processes had promised, and may have spent."""

    async def step(self, what, index, number):
        await getattr(self, what)(self.processes[index], number)
        assert self.spent <= LIMIT
        assert self.store.number("committed") <= LIMIT
        assert self.spent + self.lost <= self.store.number("committed")

    async def reserve(self, process, number):
        reserved = process.budget.account.reserve("one", Decimal(number) / 10, NOON, TERMS)
        if isinstance(reserved, Reservation):
            process.open.append(reserved)

    async def settle(self, process, number):
        if process.open:
            reservation = process.open.pop(0)
            cost = min(Decimal(number) / 10, reservation.amount_usd)
            reservation.settle(cost)
            self.spent += cost

    async def round(self, process, number):
        try:
            await process.round()
        except StoreError:
            self.store.failing = False

    async def cut(self, process, number):
        rounding = asyncio.ensure_future(process.round())
        for _ in range(number % 8):
            await asyncio.sleep(0)
        rounding.cancel()
        await asyncio.gather(rounding, return_exceptions=True)

    async def kill(self, process, number):
        self.lost += sum(reservation.amount_usd for reservation in process.open)
        self.processes[self.processes.index(process)] = Process(self.store)

    async def reclaim(self, process, number):
        living = {p.budget.process_id: p for p in self.processes}
        for key, entry in (await process.ledger.others()).items():
            # A suspended process with an unresolved entry loses what it drew: too much is counted, never too little.
            sleeps = key[1] in living and living[key[1]].book.draft is None and number % 7 == 0
            if key[1] not in living or sleeps:
                await process.ledger.count_as_spent(*key, entry)

    async def fail(self, process, number):
        self.store.failing = number % 2 == 0
        if self.store.failing:
            await self.round(process, number)

    async def close(self):
        self.store.failing = False
        for process in self.processes:
            for reservation in process.open:
                reservation.settle(reservation.amount_usd)
                self.spent += reservation.amount_usd
            await process.round()
            await process.ledger.close(process.book)
        for key, entry in (await self.processes[0].ledger.others()).items():
            await self.processes[0].ledger.count_as_spent(*key, entry)


GIVEN_BACK_INTERRUPTED = [*[("reserve", 0, 1)] * 5, ("reserve", 0, 26), ("round", 0, 1), ("cut", 0, 2)]
"""An entry that gives back is made, and its process is interrupted."""

DRAWN_TWICE = [
    *[("reserve", 0, 30)] * 3,
    ("round", 0, 1),
    *[("reserve", 1, 30)] * 3,
    ("cut", 1, 2),
    ("round", 1, 1),
]
"""An entry draws what another process has already drawn, and its process is interrupted."""


@settings(max_examples=150)
@given(st.lists(steps, max_size=40))
@example(GIVEN_BACK_INTERRUPTED)
@example([*DRAWN_TWICE[:-1], ("kill", 1, 1), ("reclaim", 0, 1)])
@example([*DRAWN_TWICE, *[("reserve", 1, 30)] * 3, *[("reserve", 0, 30)] * 3])
def test_no_more_is_spent_than_there_is_and_nothing_is_forgotten(new_store, history):
    async def live():
        world = World(new_store())
        for step in history:
            await world.step(*step)
        await world.close()
        return world

    world = asyncio.run(live())

    ledger = world.store.number("spent")
    assert world.spent <= ledger <= LIMIT
    if not any(what == "kill" for what, _, _ in history):
        assert ledger == world.spent == world.store.number("committed")
    assert not any("/process/" in key for key in world.store.entries)


class Crowd:
    """Requests that wait at two backends of different prices for what one process may draw."""

    def __init__(self, store):
        self.process = Process(store)
        self.waiting = {}
        self.promised = Decimal(0)

    async def step(self, what, request, number):
        await getattr(self, what)(request, Decimal(number) / 10)

    async def ask(self, request, amount):
        self.waiting[request] = amount
        self._try(request)

    async def retry(self, request, _):
        self._try(request)

    async def leave(self, request, _):
        self.waiting.pop(request, None)

    async def round(self, *_):
        await self.process.round()
        for request in list(self.waiting):
            self._try(request)

    def _try(self, request):
        if request not in self.waiting:
            return
        cheap = self.waiting[request]
        shortfalls = set()
        for amount in (cheap + Decimal("0.1"), cheap):
            answer = self.process.budget.account.reserve(str(request), amount, NOON, TERMS)
            if isinstance(answer, Reservation):
                self.promised += amount
                assert self.promised <= LIMIT
                del self.waiting[request]
                return
            assert answer is Shortfall.DRAWING or self.promised + amount > LIMIT
            shortfalls.add(answer)
        if shortfalls == {Shortfall.EXHAUSTED}:
            del self.waiting[request]


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ask", "ask", "ask", "retry", "leave", "round"]), st.integers(0, 30), st.integers(1, 30)
        ),
        max_size=60,
    )
)
@example([("ask", request, 8) for request in range(40)])
def test_no_request_is_refused_while_money_is_left_and_none_waits_for_ever(new_store, history):
    async def live():
        crowd = Crowd(new_store())
        await crowd.round()
        for step in history:
            await crowd.step(*step)
        await crowd.round()
        await crowd.round()
        return crowd

    assert not asyncio.run(live()).waiting


async def test_of_two_hundred_requests_a_budget_for_ten_admits_ten(store):
    process = Process(store)
    cost = Decimal(1)
    await process.round()

    async def ask():
        while True:
            reserved = process.budget.account.reserve("one", cost, NOON, TERMS)
            if isinstance(reserved, Reservation) or reserved.name == "EXHAUSTED":
                return reserved
            await process.round()

    answers = [await ask() for _ in range(200)]

    assert sum(isinstance(answer, Reservation) for answer in answers) == 10


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3), st.integers(1, 9)), max_size=30))
def test_a_settlement_belongs_to_the_month_in_which_it_was_promised(new_store, requests):
    async def live():
        store, budget = new_store(), Budget(lambda: NOON)
        ledger = Ledger(store, "one")
        midnight = bounds(JUNE)[0]
        warned = terms_of(BudgetConfig(monthly_limit_usd=Decimal(1000)))
        months, late = {MAY: 0, JUNE: 0}, []
        for is_late, offset_s, cents in requests:
            amount = Decimal(cents) / 100
            reservation = budget.account.reserve("one", amount, midnight + offset_s, warned)
            months[MAY if offset_s < 0 else JUNE] += amount
            late.append((reservation, amount)) if is_late else reservation.settle(amount)
            for book in budget.account.books.values():
                await ledger.enter(book, next_draw(book, Decimal(1), None, others_want=False), None)
        for reservation, amount in late:
            reservation.settle(amount)
        for book in budget.account.books.values():
            await ledger.close(book)
        return store, months

    store, months = asyncio.run(live())

    assert {month: store.number("spent", month) for month in months} == months


@pytest.mark.parametrize("amount", ["0.000000000001", "123456789.987654321"])
async def test_every_digit_is_kept(store, amount):
    process = Process(store)
    process.book.settle(Decimal(0), Decimal(amount))

    await process.ledger.close(process.book)

    assert process.store.number("spent") == Decimal(amount)
    assert b"E" not in process.store.entries[f"budget/spent/{MAY}"]


def test_entries_hold_amounts_as_text(store):
    asyncio.run(Process(store).round())

    (entry,) = [json.loads(value) for key, value in store.entries.items() if "/process/" in key]

    assert entry["drawn_usd"] == "1"
