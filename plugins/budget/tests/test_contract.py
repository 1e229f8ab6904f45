"""The stage passes the contract of stages, without a limit and at one."""

from decimal import Decimal
from typing import ClassVar

from nexus.testing.reconciler_contract import ReconcilerContract
from nexus_budget.budget import Budget
from nexus_budget.config import BudgetConfig, BudgetKeys
from nexus_budget.prices import PriceBook, shipped_prices
from nexus_budget.reconciler import BudgetReconciler
from nexus_budget.terms import terms_of

SHIPPED, _ = shipped_prices()


def make(spent, **keys):
    config, budget = BudgetConfig(**keys), Budget(lambda: 1_777_636_800.0)
    budget.adopt(terms_of(config))
    book = budget.account.book_of("2026-05")
    book.is_read, book.spent_usd, book.drawn_usd = True, Decimal(spent), Decimal(1)
    return BudgetReconciler(config, budget, PriceBook(config, SHIPPED))


class TestWithoutALimit(ReconcilerContract):
    policy: ClassVar = {"budget": BudgetKeys(max_cost_per_request=Decimal("0.05"))}

    def make(self):
        return make(0)


class TestAtTheSoftLimit(ReconcilerContract):
    def make(self):
        return make(80, monthly_limit_usd=Decimal(100), hard_limit_action="block_cloud")


class TestAtTheHardLimit(ReconcilerContract):
    def make(self):
        return make(100, monthly_limit_usd=Decimal(100), hard_limit_action="block_cloud")


class TestWithoutPrices(ReconcilerContract):
    def make(self):
        return make(0, unpriced_models="reject")


class TestUnconfigured(ReconcilerContract):
    def make(self):
        return make(0)
