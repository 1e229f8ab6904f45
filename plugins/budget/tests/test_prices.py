"""What a model costs: as the operator says, else as listed, else as assumed; at home nothing."""

from decimal import Decimal

import pytest

from nexus.api import ConfigError, ModelFacts
from nexus.testing.builders import make_backend
from nexus_budget.config import BudgetConfig, PriceRow
from nexus_budget.prices import MAX_CACHED_RATES, PriceBook, plain_names, shipped_prices

CLOUD = make_backend("openai", zone="cloud")
HOUSE = make_backend("gpu-1")


def prices(**keys):
    return PriceBook(BudgetConfig(**keys), shipped_prices()[0])


def row(amount, **what):
    return PriceRow(input_usd_per_1m=Decimal(amount), **what)


def millionth(rate):
    return rate.input_usd * 1_000_000


def test_a_listed_model_of_a_cloud_costs_what_the_list_says():
    rate = prices().rate(CLOUD, "gpt-4o")

    assert (rate.cost(1_000_000, 0), rate.cost(0, 1_000_000)) == (Decimal("2.5"), Decimal(10))
    assert (rate.source, rate.is_known, rate.is_paid) == ("shipped", True, True)


def test_a_local_model_is_free_whatever_its_name():
    rate = prices().rate(HOUSE, "gpt-4")

    assert (rate.is_free, rate.is_paid, rate.source) == (True, False, "local")


def test_a_cloud_in_a_restricted_zone_is_paid_like_any_other():
    assert prices().rate(make_backend("azure", kind="openai"), "gpt-4o").cost(1_000_000, 0) == Decimal("2.5")


def test_a_model_that_a_local_server_passes_on_to_a_cloud_is_paid():
    server = make_backend("laptop", models=[ModelFacts(name="glm:cloud", zone="open")])

    assert prices().rate(server, "glm:cloud").source == "assumed"


def test_an_unknown_price_is_assumed_and_not_zero():
    rate = prices().rate(CLOUD, "brand-new")

    assert (rate.source, rate.is_known) == ("assumed", False)
    assert rate.cost(1_000_000, 1_000_000) == Decimal("90.1")


@pytest.mark.parametrize(
    ("model", "listed"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4-0613", "gpt-4"),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet"),
        ("claude-opus-4-1-20250805", "claude-opus-4-1"),
        ("anthropic/claude-haiku-4-5@20251001", "claude-haiku-4-5"),
        ("OpenAI/GPT-4o", "gpt-4o"),
    ],
)
def test_a_date_or_a_maker_in_the_name_makes_no_difference(model, listed):
    assert listed in plain_names(model)
    assert prices().rate(CLOUD, model) == prices().rate(CLOUD, listed)


@pytest.mark.parametrize(("model", "price"), [("gpt-4o-2024-05-13", "5"), ("gpt-5-pro", "15"), ("gpt-5", "1.25")])
def test_a_relative_s_price_is_not_taken(model, price):
    assert millionth(prices().rate(CLOUD, model)) == Decimal(price)


def test_the_most_specific_row_wins():
    told = prices(
        prices=(
            row(1, model="gpt-*"),
            row(2, model="gpt-4o"),
            row(3, backend="openai"),
            row(4, backend="openai", model="gpt-4o"),
        )
    )

    assert millionth(told.rate(CLOUD, "gpt-4o")) == 4
    assert millionth(told.rate(CLOUD, "else")) == 3
    assert millionth(told.rate(make_backend("other", zone="cloud"), "gpt-4o")) == 1


def test_the_operator_may_price_a_local_server():
    rate = prices(prices=(row(1, backend="gpu-1"),)).rate(HOUSE, "llama3")

    assert (rate.source, rate.is_paid, millionth(rate)) == ("configured", True, 1)


def test_prices_of_a_file_come_after_those_of_the_table(tmp_path):
    file = tmp_path / "prices.toml"
    file.write_text('[[prices]]\nmodel = "a"\ninput_usd_per_1m = 0.1\n[[prices]]\nmodel = "b"\nrequest_usd = 1\n')

    told = prices(prices=(row(7, model="b"),), prices_file=str(file))

    assert told.rate(CLOUD, "a").input_usd == Decimal("1E-7")
    assert millionth(told.rate(CLOUD, "b")) == 7


@pytest.mark.parametrize("text", ["[[prices]]\nmodel = 1", "prices = 1", "no toml", "[[prices]]\nmodel = 'a'", "x = 1"])
def test_a_file_that_is_wrong_is_named(tmp_path, text):
    file = tmp_path / "prices.toml"
    file.write_text(text)

    with pytest.raises(ConfigError, match=r"'.*prices\.toml' cannot be used") as error:
        prices(prices_file=str(file))

    assert error.value.key == "prices_file"


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"'nowhere\.toml' cannot be used"):
        prices(prices_file="nowhere.toml")


def test_the_shipped_list_has_a_date_and_no_name_twice():
    listed, as_of = shipped_prices()

    assert as_of.startswith("20")
    assert all(name == name.lower() for name in listed)


def test_backends_that_come_and_go_do_not_fill_the_memory():
    told = prices()

    for number in range(MAX_CACHED_RATES + 10):
        told.rate(CLOUD, f"model-{number}")

    assert len(told._rates) <= MAX_CACHED_RATES


def test_what_was_asked_for_last_can_be_asked_by_names():
    told = prices()
    rate = told.rate(CLOUD, "gpt-4o")

    assert told.last_rate("openai", "gpt-4o") is rate
    assert told.last_rate("openai", "else") is None
