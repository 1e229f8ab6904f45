"""The table refuses what could be understood in two ways, and money is what was written."""

from decimal import Decimal

import msgspec
import pytest

from nexus_budget.config import BudgetConfig, BudgetKeys, Price


def decode(**keys):
    return msgspec.convert(keys, BudgetConfig)


def test_a_number_with_a_point_is_money_to_the_last_digit():
    assert decode(monthly_limit_usd=0.1).monthly_limit_usd == Decimal("0.1")


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf"), 1e-13, "many", True, 2e9])
def test_an_invalid_limit_is_refused(limit):
    with pytest.raises(msgspec.ValidationError, match="monthly_limit_usd"):
        decode(monthly_limit_usd=limit)


@pytest.mark.parametrize("percent", [0.75, 1, 0, -5, 100.5, float("nan")])
def test_a_share_that_could_be_a_fraction_is_refused(percent):
    with pytest.raises(msgspec.ValidationError, match="soft_limit_percent"):
        decode(soft_limit_percent=percent)


@pytest.mark.parametrize(
    "keys",
    [
        {"hard_limit_action": "block"},
        {"unpriced_models": "free"},
        {"assumed_output_tokens": 0},
        {"allowance_usd": 0},
        {"sync_interval_seconds": 0},
        {"prices": [{"model": "x"}]},
        {"prices": [{"input_usd_per_1m": 1}]},
        {"prices": [{"model": "x", "input_usd_per_1m": -1}]},
        {"prices": [{"model": "x", "input": 1}]},
        {"assumed_price": {}},
        {"monthly_limit": 1},
    ],
)
def test_invalid_values_are_refused(keys):
    with pytest.raises(msgspec.ValidationError):
        decode(**keys)


def test_a_price_of_nothing_must_be_said():
    with pytest.raises(ValueError, match="0 means that it is free"):
        Price()


def test_a_policy_may_allow_only_what_is_free():
    assert msgspec.convert({"max_cost_per_request": 0}, BudgetKeys).max_cost_per_request == 0


def test_a_policy_s_limit_is_an_amount():
    with pytest.raises(msgspec.ValidationError, match="max_cost_per_request"):
        msgspec.convert({"max_cost_per_request": -0.1}, BudgetKeys)
