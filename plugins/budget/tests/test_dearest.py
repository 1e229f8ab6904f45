"""A limit of the cost is kept exactly, although it is mostly compared with the dearest price alone."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from nexus.api import Requirements
from nexus.testing.builders import CHAT, make_backend, make_intent
from nexus_budget.budget import Budget
from nexus_budget.config import BudgetConfig, BudgetKeys, PriceRow
from nexus_budget.prices import PriceBook
from nexus_budget.reconciler import BudgetReconciler

PRICES = (
    PriceRow(model="cheap", input_usd_per_1m=Decimal(1), output_usd_per_1m=Decimal(2)),
    PriceRow(model="chatty", input_usd_per_1m=Decimal(1), output_usd_per_1m=Decimal(90)),
    PriceRow(model="wordy", input_usd_per_1m=Decimal(40), output_usd_per_1m=Decimal(2)),
    PriceRow(model="flat", request_usd=Decimal("0.02")),
)
CONFIG = BudgetConfig(prices=PRICES)
STAGE = BudgetReconciler(CONFIG, Budget(lambda: 1_777_636_800.0), PriceBook(CONFIG, {}))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["cheap", "chatty", "wordy", "flat", "mine"]), max_size=4),
    st.integers(0, 20_000),
    st.none() | st.integers(1, 4_000),
    st.decimals("0.0001", "0.5", places=4),
    st.sampled_from(["chat", "embeddings", "images"]),
)
def test_a_limit_excludes_exactly_those_that_exceed_it(models, prompt, longest, limit, capability):
    backends = [make_backend(f"backend-{at}", models=(name,)) for at, name in enumerate(models)]
    intent = replace(
        make_intent(
            requirements=Requirements(model="any", prompt_tokens=prompt, max_tokens=longest),
            endpoint=replace(CHAT, capability=capability),
            policy={"budget": BudgetKeys(max_cost_per_request=limit)},
        ),
        survivors={backend.name: (backend, name) for backend, name in zip(backends, models, strict=True)},
    )
    facts = STAGE.explain(intent)["backends"]

    STAGE.reconcile(intent)

    # What is shown is rounded.
    above = {name for name, fact in facts.items() if fact["estimated_cost_usd"] > float(limit) + 1e-6}
    below = {name for name, fact in facts.items() if fact["estimated_cost_usd"] < float(limit) - 1e-6}
    assert above <= {verdict.backend for verdict in intent.excluded} <= facts.keys() - below
