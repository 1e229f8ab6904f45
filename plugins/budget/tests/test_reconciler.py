"""What the stage says of a request, and when it holds money for one."""

from decimal import Decimal

import pytest

from nexus.api import AttemptOutcome, Ending, Hold, Refusal, TokenUsage
from nexus.testing.builders import make_backend
from nexus_budget.config import BudgetKeys, Price, PriceRow
from nexus_budget.reconciler import MAX_EXPLAINED
from nexus_budget.terms import terms_of

BLOCK = {"monthly_limit_usd": 100, "hard_limit_action": "block_cloud"}


@pytest.fixture
def spent(budget):
    """Set what was spent in this month, and how much is drawn: ``spent(80)``."""

    def set_spent(usd, drawn=1000):
        book = budget.book
        book.is_read, book.spent_usd, book.committed_usd = True, Decimal(str(usd)), Decimal(str(usd)) + drawn
        book.drawn_usd = Decimal(drawn)

    return set_spent


def outcome(**fields):
    told = {"ending": Ending.FINISHED, "is_sent": True, "status": 200, **fields}
    return AttemptOutcome(backend="openai", backend_id="openai", model="gpt-4o", **told)


def reasons(intent):
    return {verdict.backend: verdict.reason for verdict in intent.excluded}


@pytest.mark.parametrize(
    ("usd", "action", "left", "halved"),
    [
        (0, "block_all", {"gpu-1", "openai"}, set()),
        (74.99, "block_cloud", {"gpu-1", "openai"}, set()),
        (75, "block_cloud", {"gpu-1", "openai"}, {"openai"}),
        (99.99, "block_all", {"gpu-1", "openai"}, {"openai"}),
        (100, "warn", {"gpu-1", "openai"}, {"openai"}),
        (100, "block_cloud", {"gpu-1"}, set()),
        (100, "block_all", set(), set()),
    ],
)
def test_each_action_applies_at_its_limit(stage, ask, spent, usd, action, left, halved):
    spent(usd)
    intent = ask()

    stage(monthly_limit_usd=100, hard_limit_action=action).reconcile(intent)

    assert intent.candidates == left
    assert {verdict.backend for verdict in intent.weights if verdict.factor == 0.5} == halved


def test_a_refusal_says_why_and_until_when(stage, ask, spent):
    spent(100)
    intent = ask()

    stage(**BLOCK).reconcile(intent)

    (verdict,) = intent.excluded
    assert verdict.reason == "Monthly budget hard limit reached; cloud agent 'openai' blocked (zone: open)"
    assert "wait for the next month" in verdict.action
    assert verdict.context == {
        "budget_spending_usd": 100.0,
        "budget_limit_usd": 100.0,
        "budget_next_reset_date": "2026-06-01",
    }


def test_without_a_limit_nothing_is_ever_refused(stage, ask, spent, fleet):
    spent(1_000_000)
    intent = ask()

    stage().reconcile(intent)

    assert intent.candidates == {"gpu-1", "openai"}
    assert not intent.weights
    assert isinstance(stage().reserve(intent, fleet["openai"]), Hold)


def test_a_policy_limits_the_cost_of_one_request(stage, ask):
    policy = {"budget": BudgetKeys(max_cost_per_request=Decimal("0.01"))}
    cheap, dear = ask(policy=policy, max_tokens=100), ask(policy=policy, max_tokens=10_000)

    stage().reconcile(cheap)
    stage().reconcile(dear)

    assert cheap.candidates == {"gpu-1", "openai"}
    assert dear.candidates == {"gpu-1"}
    assert "0.1025 USD exceeds 0.01 USD" in reasons(dear)["openai"]


def test_a_model_without_a_price_can_be_refused(stage, ask):
    intent = ask(model="new", backends=[make_backend("openai", zone="cloud", models=("new",))])

    stage(unpriced_models="reject").reconcile(intent)

    assert "price is not known" in reasons(intent)["openai"]


def test_at_the_limit_an_unknown_price_is_no_matter_of_a_warning(stage, ask, spent):
    spent(100)
    unknown = ask(model="new", backends=[make_backend("openai", zone="cloud", models=("new",))])

    stage(monthly_limit_usd=100).reconcile(unknown)

    assert unknown.candidates == set()


def test_an_assumed_price_is_logged_once_and_always_counted(stage, ask, budget):
    openai = make_backend("openai", zone="cloud", models=("new",))
    made = stage()

    for _ in range(3):
        made.reserve(ask(model="new", backends=[openai]), openai)

    assert budget.counters.unpriced["openai", "new"] == 3
    assert budget.counters.events["price_assumed"] == 1


def test_a_hold_is_settled_with_what_the_answer_cost(stage, ask, spent, budget, fleet):
    spent(0)
    hold = stage(**BLOCK).reserve(ask(max_tokens=1000), fleet["openai"])
    assert budget.book.reserved_usd == Decimal("0.0125")

    hold.settle(outcome(usage=TokenUsage(1000, 10)))

    assert (budget.book.reserved_usd, budget.book.settled_usd) == (0, Decimal("0.0026"))
    assert hold.cost_usd() == 0.0026
    assert budget.counters.attempts["openai", "gpt-4o", "reported"] == 1


def test_a_request_waits_for_its_money_once_at_however_many_backends(stage, ask, spent, budget):
    spent(0, drawn=0)
    clouds = [make_backend(name, zone="cloud", models=("gpt-4o",)) for name in ("one", "two")]
    made, intent = stage(**BLOCK), ask(max_tokens=1000, backends=clouds)

    refusals = [made.reserve(intent, backend) for backend in (*clouds, *clouds)]

    assert all(refusal.is_saturation for refusal in refusals)
    assert budget.book.short_usd == Decimal("0.0125")


def test_a_request_with_a_local_answer_waits_for_no_money(stage, ask, spent, budget, fleet):
    spent(0, drawn=0)
    made, intent = stage(**BLOCK), ask(max_tokens=1000)

    made.reserve(intent, fleet["openai"])
    made.reserve(intent, fleet["gpu-1"])

    assert budget.book.short_usd == 0


def test_the_text_of_an_answer_without_a_usage_is_counted(stage, ask, spent, budget, fleet):
    spent(0)
    hold = stage(**BLOCK).reserve(ask(is_stream=True), fleet["openai"])

    for piece in ("x" * 30, "y" * 10):
        hold.listener()(piece)
    hold.settle(outcome(is_stream=True, ending=Ending.CLIENT_LEFT))

    assert budget.book.settled_usd == Decimal("0.0026")


def test_what_was_never_sent_costs_nothing_and_is_free_again(stage, ask, spent, budget, fleet):
    spent(0)
    free = budget.book.free_usd
    hold = stage(**BLOCK).reserve(ask(), fleet["openai"])

    hold.settle(outcome(is_sent=False, status=None, ending=Ending.REJECTED))

    assert budget.book.free_usd == free


def test_a_local_backend_reserves_nothing(stage, ask, spent, fleet):
    spent(0)

    assert stage(**BLOCK).reserve(ask(), fleet["gpu-1"]) is None


def test_what_is_left_must_cover_the_estimate(stage, ask, spent, fleet):
    spent("99.995", drawn=Decimal("0.005"))

    refusal = stage(**BLOCK).reserve(ask(max_tokens=1000), fleet["openai"])

    assert isinstance(refusal, Refusal)
    assert (refusal.is_saturation, refusal.context["estimated_cost_usd"]) == (False, 0.0125)
    assert stage(**BLOCK).would_refuse(ask(max_tokens=1000), fleet["openai"]) is not None
    assert stage(**BLOCK).would_refuse(ask(max_tokens=1000), fleet["gpu-1"]) is None


def test_a_request_waits_for_money_that_is_not_drawn_yet(stage, ask, spent, fleet, budget):
    spent(10, drawn=0)

    refusal = stage(**BLOCK).reserve(ask(max_tokens=1000), fleet["openai"])

    assert refusal.is_saturation
    assert budget.sync_now.is_set()
    assert stage(**BLOCK).would_refuse(ask(max_tokens=1000), fleet["openai"]) is None


def test_without_the_ledger_clouds_are_excluded_and_local_backends_used(stage, ask, spent, budget, fleet):
    spent(0)
    budget.ledger_health.failure = "the disk is full"
    intent = ask()

    stage(**BLOCK).reconcile(intent)

    assert intent.candidates == {"gpu-1"}
    assert "cannot be reached" in reasons(intent)["openai"]
    assert "the disk is full" not in reasons(intent)["openai"]
    assert isinstance(stage(**BLOCK).reserve(ask(), fleet["openai"]), Refusal)
    assert stage(**BLOCK).reserve(ask(), fleet["gpu-1"]) is None
    assert budget.counters.events["ledger_unreachable"] == 1


def test_without_its_ledger_a_limit_that_only_warns_closes_nothing(stage, ask, spent, budget, fleet):
    spent(0)
    budget.ledger_health.failure = "the disk is full"

    assert isinstance(stage(monthly_limit_usd=100).reserve(ask(), fleet["openai"]), Hold)


def test_headers_tell_the_cost_and_only_past_the_soft_limit_the_month(stage, ask, spent, fleet):
    spent(0)
    calm = stage(**BLOCK).reserve(ask(max_tokens=1000), fleet["openai"])
    spent("80.126")
    late = stage(**BLOCK).reserve(ask(max_tokens=1000), fleet["openai"])
    house = stage(**BLOCK).reserve(ask(), fleet["gpu-1"])

    month_headers = {
        "X-Nexus-Budget-Status": "SoftLimit",
        "X-Nexus-Budget-Utilization": "80.13",
        "X-Nexus-Budget-Remaining": "19.87",
    }
    assert calm.headers(None) == {"X-Nexus-Cost-Estimated": "0.0125"}
    assert late.headers(TokenUsage(1000, 10)) == {"X-Nexus-Cost-Estimated": "0.0026", **month_headers}
    assert house.headers(None) == month_headers
    house.settle(outcome())


def test_prices_of_the_operator_count(stage, ask, spent, budget, fleet):
    spent(0)
    row = PriceRow(backend="gpu-1", request_usd=Decimal("0.5"))

    stage(**BLOCK, prices=(row,)).reserve(ask(), fleet["gpu-1"])

    assert budget.book.reserved_usd == Decimal("0.5")


def test_what_is_assumed_can_be_chosen(stage, ask, budget):
    openai = make_backend("openai", zone="cloud", models=("new",))

    stage(assumed_price=Price(request_usd=Decimal(2))).reserve(ask(model="new", backends=[openai]), openai)

    assert budget.book.reserved_usd == 2


def test_an_explanation_names_the_price_and_where_it_is_from(stage, ask, spent):
    spent(80)

    told = stage(**BLOCK).explain(ask(max_tokens=1000))

    assert (told["status"], told["budget_spending_usd"], told["is_enforced"]) == ("SoftLimit", 80.0, True)
    assert told["backends"]["openai"] == {
        "price": "shipped",
        "estimated_cost_usd": 0.0125,
        "prompt_tokens": 1000,
        "completion_tokens": 1000,
    }
    assert told["backends"]["gpu-1"]["price"] == "local"


def test_a_stage_that_observes_says_what_it_would_refuse_for_want_of_money(stage, ask, spent, budget):
    spent("99.995", drawn=0)
    made = stage(**BLOCK)
    budget.adopt(terms_of(made._config, is_observed=True))
    intent = ask(max_tokens=1000)

    made.reconcile(intent)

    assert "does not cover" in reasons(intent)["openai"]
    assert budget.counters.refusals["exhausted"] == 1


def test_an_explanation_of_a_large_fleet_is_bounded(stage, ask):
    many = [make_backend(f"cloud-{number}", zone="cloud", models=("gpt-4o",)) for number in range(200)]

    assert len(stage().explain(ask(backends=many))["backends"]) == MAX_EXPLAINED


def test_the_figures_at_a_glance_have_the_budget_while_there_is_a_limit(stage, spent):
    spent(80)

    told = stage(**BLOCK).report()

    assert (told["current_spending_usd"], told["monthly_limit_usd"], told["status"]) == (80.0, 100.0, "SoftLimit")
    assert stage().report() == {}
