"""What an attempt has cost, however it ended."""

from decimal import Decimal

import pytest

from nexus.api import AttemptOutcome, Ending, Endpoint, Requirements, TokenUsage
from nexus.testing.builders import make_backend
from nexus_budget.config import BudgetConfig, Price
from nexus_budget.costs import estimate, spent
from nexus_budget.prices import PriceBook
from nexus_budget.tokens import TextMeter

PRICE = Price(input_usd_per_1m=Decimal(1_000_000), output_usd_per_1m=Decimal(1_000_000))
"""A dollar for a token, so that numbers can be read."""
PRICES = PriceBook(BudgetConfig(), {"gpt-4o": PRICE})
RATE = PRICES.rate(make_backend("openai", zone="cloud"), "gpt-4o")


ASSUMED = PRICES.rate(make_backend("openai", zone="cloud"), "new")


def estimated(*, capability="chat", max_tokens=100, rate=RATE, **more):
    endpoint = Endpoint("openai.any", "openai", "/v1/any", capability=capability)
    wanted = Requirements(model="gpt-4o", prompt_tokens=10, max_tokens=max_tokens, **more)
    return estimate(rate, endpoint, wanted, PRICES, assumed_output_tokens=500)


def cost(*, text="", before=None, **outcome):
    meter = TextMeter("gpt-4o", None)
    meter.add(text)
    fields = {"ending": Ending.FINISHED, "is_sent": True, "status": 200, **outcome}
    told = AttemptOutcome(backend="openai", backend_id="openai", model="gpt-4o", **fields)
    return tuple(spent(told, before or estimated(), meter))


def test_an_estimate_is_the_prompt_and_the_maximum_answer():
    assert (estimated().cost_usd, estimated(max_tokens=None).cost_usd) == (110, 510)


def test_each_choice_is_taken_to_be_as_long_as_an_answer_may_be():
    assert (estimated(answers=5).cost_usd, estimated(max_tokens=None, answers=2).cost_usd) == (510, 1010)


@pytest.mark.parametrize("capability", ["chat", "embeddings"])
def test_each_of_several_prompts_is_paid_for(capability):
    more = estimated(capability=capability, further_prompt_tokens=90)

    assert more.cost_usd - estimated(capability=capability).cost_usd == 90


def test_each_picture_is_paid_for():
    assert estimated(capability="images", answers=10).cost_usd == Decimal("11.00")


@pytest.mark.parametrize("capability", ["embeddings", "rerank"])
def test_numbers_cost_their_prompt(capability):
    assert estimated(capability=capability).cost_usd == 10
    assert cost(before=estimated(capability=capability)) == (10, "estimated")


def test_tokenizing_costs_nothing():
    assert estimated(capability="tokenize").cost_usd == 0


@pytest.mark.parametrize("capability", ["audio", "images"])
def test_what_has_no_tokens_costs_what_a_request_is_assumed_to(capability):
    assert estimated(capability=capability).cost_usd == Decimal("10.10")


def test_what_the_backend_counted_is_what_it_cost():
    assert cost(usage=TokenUsage(3, 4)) == (7, "reported")


def test_what_the_backend_did_not_count_is_not_free():
    assert cost(usage=TokenUsage(0, 4)) == (14, "reported")
    assert cost(usage=TokenUsage(3, 0), text="x" * 40) == (13, "reported")
    assert cost(usage=TokenUsage(0, 0), text="x" * 40) == (20, "heuristic")


def test_without_a_usage_the_text_is_counted():
    assert cost(text="x" * 40) == (20, "heuristic")


def test_of_a_stream_that_was_cut_the_usage_may_be_an_early_one():
    assert cost(ending=Ending.CLIENT_LEFT, is_stream=True, usage=TokenUsage(10, 1), text="x" * 40) == (20, "reported")


@pytest.mark.parametrize(
    "outcome",
    [
        {"is_sent": False, "status": None, "ending": Ending.CLIENT_LEFT},
        {"is_sent": False, "status": None, "ending": Ending.REJECTED},
        {"status": None, "ending": Ending.BACKEND_FAILED, "fault": "refused"},
        {"status": None, "ending": Ending.BACKEND_FAILED, "fault": "stale"},
        {"status": 429, "ending": Ending.BACKEND_FAILED, "fault": "status"},
        {"status": 400},
    ],
)
def test_what_was_never_worked_on_costs_nothing(outcome):
    assert cost(**outcome) == (0, "nothing")


@pytest.mark.parametrize("ending", [Ending.CLIENT_LEFT, Ending.BACKEND_FAILED, Ending.TIMED_OUT, Ending.CLIENT_STALLED])
def test_a_stream_that_has_said_nothing_costs_its_prompt(ending):
    assert cost(before=estimated(is_stream=True), ending=ending, is_stream=True) == (10, "estimated")


@pytest.mark.parametrize("ending", [Ending.CLIENT_LEFT, Ending.TIMED_OUT, Ending.SHUT_DOWN])
def test_an_answer_that_was_not_awaited_may_have_been_whole(ending):
    assert cost(ending=ending, status=None) == (110, "estimated")


def test_a_backend_that_broke_before_its_answer_costs_the_prompt():
    assert cost(ending=Ending.BACKEND_FAILED, status=None, fault="reset") == (10, "estimated")


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("usage", [None, TokenUsage(0, 0)])
def test_a_call_that_asks_for_no_answer_and_gets_none_costs_nothing(is_stream, usage):
    before = estimated(rate=ASSUMED, answers=0, is_stream=is_stream)

    assert before.cost_usd == 0
    assert cost(before=before, is_stream=is_stream, usage=usage) == (0, "nothing")


def test_a_call_that_gets_an_answer_unasked_pays_for_it():
    assert cost(before=estimated(answers=0), usage=TokenUsage(3, 4)) == (7, "reported")
    assert cost(before=estimated(answers=0), text="x" * 40) == (20, "heuristic")


def test_an_answer_that_cannot_be_read_costs_the_estimate():
    assert cost() == (110, "estimated")
