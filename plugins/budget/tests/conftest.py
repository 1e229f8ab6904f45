"""A store that can be made to fail or to hang, and what the tests of the budget share."""

import asyncio
from decimal import Decimal
from types import MappingProxyType

import pytest

from nexus.api import Add, AddIfAtMost, LimitReached, Put, Requirements, Store, StoreError
from nexus.testing.builders import make_backend
from nexus_budget.book import Book
from nexus_budget.bookkeeping import Bookkeeping
from nexus_budget.budget import Budget
from nexus_budget.config import BudgetConfig
from nexus_budget.ledger import Ledger
from nexus_budget.prices import PriceBook, shipped_prices
from nexus_budget.reconciler import BudgetReconciler
from nexus_budget.terms import terms_of

pytest_plugins = ["nexus.testing.fixtures"]

NOON = 1_777_636_800.0
"""The first of May 2026, 12:00 UTC."""
MAY = "2026-05"


class FakeStore(Store):
    """Keeps its entries for as long as the test lasts; each call takes two turns of the event loop."""

    def __init__(self):
        self.entries = {}
        self.failing = False
        self.hanging = None

    async def open(self):
        pass

    async def close(self):
        pass

    async def get(self, key):
        await self._pass()
        return self.entries.get(key)

    async def scan(self, prefix, *, after="", limit=1000):
        await self._pass()
        found = [item for item in sorted(self.entries.items()) if item[0].startswith(prefix) and item[0] > after]
        return tuple(found[:limit])

    async def apply(self, changes):
        await self._pass()
        before = dict(self.entries)
        try:
            totals = tuple(self._change(change) for change in changes)
        except LimitReached:
            self.entries = before
            raise
        await asyncio.sleep(0)
        return totals

    async def _pass(self):
        if self.hanging is not None:
            await self.hanging.wait()
        await asyncio.sleep(0)
        if self.failing:
            raise StoreError("the disk is full")

    def _change(self, change):
        match change:
            case Put(key, value):
                self.entries[key] = value
            case Add(key, amount) | AddIfAtMost(key, amount):
                before = Decimal(self.entries.get(key, b"0").decode())
                total = before + amount
                if isinstance(change, AddIfAtMost) and total > change.limit:
                    raise LimitReached(key, before)
                self.entries[key] = f"{total:f}".encode()
                return total
            case _:
                self.entries.pop(change.key, None)
        return None

    def number(self, name, month=MAY):
        return Decimal(self.entries.get(f"budget/{name}/{month}", b"0").decode())


class Forgetful(FakeStore):
    survives_restart = False


class Clock:
    """An instant that tests move."""

    def __init__(self, unix_s=NOON):
        self.unix_s = unix_s

    def __call__(self):
        return self.unix_s


def config_of(**keys):
    """Make a configuration; amounts may be numbers as people write them."""
    money = {"monthly_limit_usd", "soft_limit_percent", "allowance_usd"}
    return BudgetConfig(**{k: Decimal(str(v)) if k in money and v is not None else v for k, v in keys.items()})


@pytest.fixture(scope="session")
def new_store():
    """Make a store; also for tests of many examples, each of which needs its own."""
    return FakeStore


@pytest.fixture
def forgetful():
    return Forgetful()


@pytest.fixture
def store():
    return FakeStore()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def budget(clock):
    return Budget(clock)


@pytest.fixture
def ledger(store):
    return Ledger(store, "one")


@pytest.fixture
def book():
    return Book(MAY)


@pytest.fixture
def serve(store):
    """Make the service of a budget: ``async with serve(budget, monthly_limit_usd=1):``."""

    def make(budget, *, store=store, wake=lambda: None, interval_s=0.01, is_observed=False, **keys):
        terms = terms_of(config_of(**keys), is_observed=is_observed)
        return Bookkeeping(budget, terms, store, interval_s=interval_s, wake=wake)

    return make


@pytest.fixture
def stage(budget):
    """Make a stage: ``stage(monthly_limit_usd=1)``."""

    def make(*, budget=budget, **keys):
        config = config_of(**keys)
        shipped, _ = shipped_prices()
        made = budget.newest_stage = BudgetReconciler(config, budget, PriceBook(config, shipped))
        return made

    return make


@pytest.fixture
def fleet():
    """A local server and a cloud, both with gpt-4o."""
    return {
        "gpu-1": make_backend("gpu-1", models=("gpt-4o",)),
        "openai": make_backend("openai", zone="cloud", models=("gpt-4o",)),
    }


@pytest.fixture
def ask(intent, fleet):
    """Make a request for gpt-4o of a thousand tokens: ``ask(max_tokens=10)``."""

    def make(*, model="gpt-4o", backends=None, policy=MappingProxyType({}), prompt_tokens=1000, **keys):
        wanted = Requirements(model=model, prompt_tokens=prompt_tokens, **keys)
        backends = fleet.values() if backends is None else backends
        return intent(model=model, requirements=wanted, backends=backends, policy=policy)

    return make
