"""The README says what an operator looks for, and what it shows is so."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from nexus_budget import holds
from nexus_budget.config import BudgetConfig, BudgetKeys

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.rst").read_text()
SOURCES = "".join(path.read_text() for path in (ROOT / "nexus_budget").glob("*.py"))
KEYS = msgspec.structs.fields(BudgetConfig)
TOLD = set(re.findall(r'(?:tell|info)\(\s*"(\w+)"', SOURCES))
# Chosen by a table or a condition.
EVENTS = TOLD | {"soft_limit_reached", "hard_limit_reached", "limit_increased", "limit_decreased"}


def table(head):
    """The names with which the rows of the table of that head begin."""
    _, _, rest = README.partition(f"   * - {head}\n")
    rows, _, _ = rest.partition("\n\n")
    cells = re.findall(r"^   \* - (.+)$", rows, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"``([^`]+)``", cell)}


def test_every_key_is_explained():
    policy = {f"[[routing.policies]] {key}" for key in BudgetKeys.__struct_fields__}

    assert table("Key") == {f"[plugins.budget] {key.name}" for key in KEYS} | policy


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_the_defaults_are_those_of_the_code(key):
    cell = rf"``\[plugins.budget\] {key.name}``\n     - .+\n     - (.+)\n"
    (default,) = re.findall(cell, README)

    if default == "not set":
        assert key.default is None
    else:
        told = tomllib.loads(f"it = {default.strip('`')}")["it"]
        assert msgspec.convert(told, key.type) == key.default


def test_the_configuration_that_it_shows_is_one():
    (shown,) = re.findall(r"\.\. code-block:: toml\n\n((?:    .+\n|\n)+)", README)
    tables = tomllib.loads(re.sub("^    ", "", shown, flags=re.MULTILINE))

    msgspec.convert(tables["plugins"]["budget"], BudgetConfig)
    keys = dict(tables["routing"]["policies"][0])
    keys.pop("model_pattern")
    msgspec.convert(keys, BudgetKeys)


def test_every_header_is_explained():
    assert table("Header") == {holds.COST, holds.STATUS, holds.UTILIZATION, holds.REMAINING}


def test_every_metric_is_explained(stage):
    measured = {f"{m.name}_total" if m.type == "counter" else m.name for m in stage(monthly_limit_usd=1).measures()}

    assert table("Metric") == measured


def test_every_fact_of_an_explanation_is_explained(stage, ask):
    assert table("In ``explain``") == set(stage().explain(ask()))


def test_every_log_event_is_explained():
    assert table("Log event") == EVENTS


def test_every_reason_of_a_refusal_is_explained():
    reasons = set(re.findall(r'refusals\["(\w+)"\]|return "(\w+)",', SOURCES))

    assert [reason for pair in reasons for reason in pair if reason and f"``{reason}``" not in README] == []
