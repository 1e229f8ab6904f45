"""The hooks of the budget plugin."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import msgspec

from nexus.api import AdminReply, AdminRoute, ExchangeOutcome, Reconciler, Store, hookimpl
from nexus_budget.bookkeeping import Bookkeeping, refuse_forgetful
from nexus_budget.budget import budget_of
from nexus_budget.config import BudgetConfig
from nexus_budget.observing import account_for
from nexus_budget.prices import PriceBook, shipped_prices
from nexus_budget.reconciler import BudgetReconciler
from nexus_budget.report import section
from nexus_budget.terms import terms_of


@hookimpl
def nexus_config() -> type[BudgetConfig]:
    return BudgetConfig


@hookimpl
def nexus_reconcilers(config: BudgetConfig, state: dict[str, Any]) -> list[Reconciler]:
    budget = budget_of(state)
    shipped, as_of = shipped_prices()
    budget.newest_stage = stage = BudgetReconciler(config, budget, PriceBook(config, shipped, as_of))
    return [stage]


@hookimpl
def nexus_configured(config: BudgetConfig, store: Store) -> None:
    refuse_forgetful(config.monthly_limit_usd, store)


@hookimpl
def nexus_services(
    config: BudgetConfig, store: Store, state: dict[str, Any], wake: Callable[[], None]
) -> list[AbstractAsyncContextManager[None]]:
    budget = budget_of(state)
    stage = budget.newest_stage
    terms = terms_of(config, is_observed=stage is not None and stage.is_observed)
    return [Bookkeeping(budget, terms, store, interval_s=config.sync_interval_seconds, wake=wake)]


@hookimpl
def nexus_observers(config: BudgetConfig, state: dict[str, Any]) -> list[Callable[[ExchangeOutcome], None]]:
    budget = budget_of(state)
    stage = budget.newest_stage
    # Otherwise the holds of the stage book what is spent.
    return [partial(account_for, config=config, budget=budget)] if stage is not None and stage.is_observed else []


@hookimpl
def nexus_routes(config: BudgetConfig, state: dict[str, Any]) -> list[AdminRoute]:
    _, as_of = shipped_prices()

    def respond(query: Mapping[str, str]) -> AdminReply:
        del query
        return 200, "application/json", msgspec.json.encode(section(budget_of(state), config, as_of))

    return [AdminRoute("/", respond)]
