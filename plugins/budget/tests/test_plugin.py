"""What the hooks give: one budget for a process, a page, and the accounting of a stage that only observes."""

import json
from decimal import Decimal

import pytest

from nexus.api import AttemptOutcome, Ending, ExchangeOutcome, TokenUsage
from nexus_budget import plugin
from nexus_budget.budget import budget_of
from nexus_budget.config import BudgetConfig
from nexus_budget.terms import terms_of

CONFIG = BudgetConfig(monthly_limit_usd=Decimal(100))


@pytest.fixture
def state():
    return {}


def exchange(**attempt):
    fields = {"ending": Ending.FINISHED, "is_sent": True, "status": 200, **attempt}
    tried = AttemptOutcome(backend="openai", backend_id="openai", model="gpt-4o", **fields)
    return ExchangeOutcome(
        request_id="r",
        endpoint="openai.chat",
        protocol="openai",
        model="gpt-4o",
        resolved_model="gpt-4o",
        is_stream=False,
        ending=Ending.FINISHED,
        status=200,
        code=None,
        phase="relay",
        termination="--",
        route_reason=None,
        fallback_model=None,
        attempts=(tried,),
        received_at=1_777_636_800.0,
        duration_s=1.0,
        queued_s=0.0,
        first_byte_s=None,
        usage=None,
        bytes_in=4000,
        bytes_out=0,
    )


def observed(state, *, is_observed):
    (stage,) = plugin.nexus_reconcilers(config=CONFIG, state=state)
    stage.is_observed = is_observed
    budget_of(state).adopt(terms_of(CONFIG, is_observed=is_observed))
    return stage


def test_the_table_has_a_type():
    assert plugin.nexus_config() is BudgetConfig


def test_a_reload_makes_a_new_stage_for_the_same_budget(state):
    (first,) = plugin.nexus_reconcilers(config=CONFIG, state=state)
    (second,) = plugin.nexus_reconcilers(config=CONFIG, state=state)

    assert first is not second
    assert first._budget is second._budget


@pytest.mark.parametrize("is_observed", [True, False])
async def test_a_service_knows_whether_the_stage_only_observes(state, store, is_observed):
    (stage,) = plugin.nexus_reconcilers(config=CONFIG, state=state)
    stage.is_observed = is_observed

    (service,) = plugin.nexus_services(config=CONFIG, store=store, state=state, wake=lambda: None)

    async with service:
        assert budget_of(state).terms_in_force.is_observed is is_observed


@pytest.mark.parametrize(
    ("attempt", "usd"),
    [
        ({"usage": TokenUsage(1000, 10)}, "0.0026"),
        ({}, "0.01274"),
        ({"ending": Ending.CLIENT_LEFT}, "0.0025"),
        ({"status": 500}, "0"),
    ],
)
def test_what_a_stage_that_observes_let_pass_is_counted(state, ask, attempt, usd):
    observed(state, is_observed=True).reconcile(ask())

    (observe,) = plugin.nexus_observers(config=CONFIG, state=state)
    observe(exchange(**attempt))

    assert budget_of(state).account.book_of("2026-05").settled_usd == Decimal(usd)


def test_what_a_stage_has_held_is_not_counted_twice(state, ask):
    observed(state, is_observed=False).reconcile(ask())

    assert plugin.nexus_observers(config=CONFIG, state=state) == []


def test_the_page_shows_the_month(state):
    (route,) = plugin.nexus_routes(config=CONFIG, state=state)

    status, content_type, body = route.respond({})

    shown = json.loads(body)
    assert (status, content_type, route.path) == (200, "application/json", "/")
    assert {
        "current_spending_usd",
        "monthly_limit_usd",
        "utilization_percent",
        "status",
        "billing_month",
        "last_reconciliation",
        "soft_limit_threshold",
        "hard_limit_action",
        "next_reset_date",
    } <= shown.keys()
    assert (shown["monthly_limit_usd"], shown["status"], shown["hard_limit_action"]) == (100.0, "Normal", "Warn")
