"""The README is complete and agrees with the code."""

import re
from decimal import Decimal
from pathlib import Path

from nexus.api import Reconciler
from nexus.testing.readme_contract import Readme, ReadmeContract
from nexus_budget import holds
from nexus_budget.budget import Budget
from nexus_budget.config import BudgetConfig
from nexus_budget.prices import PriceBook
from nexus_budget.reconciler import BudgetReconciler
from nexus_budget.terms import terms_of

ROOT = Path(__file__).parents[1]
README = Readme(ROOT / "README.rst")
SOURCES = "".join(path.read_text() for path in (ROOT / "nexus_budget").glob("*.py"))
TOLD = set(re.findall(r'(?:warn|info)\(\s*"(\w+)"', SOURCES))
# Chosen by a table or a condition.
EVENTS = TOLD | {"soft_limit_reached", "hard_limit_reached", "limit_increased", "limit_decreased"}


class TestReadme(ReadmeContract):
    plugin = "budget"
    path = ROOT / "README.rst"
    config = BudgetConfig

    def make(self) -> Reconciler:
        config, budget = BudgetConfig(monthly_limit_usd=Decimal(1)), Budget()
        budget.adopt(terms_of(config))
        return BudgetReconciler(config, budget, PriceBook(config, {}))


def test_every_header_is_explained():
    assert README.named("Header") == {holds.COST, holds.STATUS, holds.UTILIZATION, holds.REMAINING}


def test_every_log_event_is_explained():
    assert README.named("Log event") == EVENTS


def test_every_reason_of_a_refusal_is_explained():
    reasons = set(re.findall(r'refusals\["(\w+)"\]|return "(\w+)",', SOURCES))

    assert [reason for pair in reasons for reason in pair if reason and f"``{reason}``" not in README.text] == []
