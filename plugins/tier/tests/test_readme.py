"""The README says what an operator looks for, and its configuration is one."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from nexus.testing.builders import make_intent
from nexus_tier.config import TierConfig, TierKeys
from nexus_tier.floor import FLEXIBLE, STRICT
from nexus_tier.reconciler import TierReconciler
from nexus_tier.tally import Tally

README = (Path(__file__).parents[1] / "README.rst").read_text()
HEADINGS = ["What it does", "Install", "Configure", "How it decides", "When it fails", "What it shows", "Limits"]
STAGE = TierReconciler(TierConfig(), Tally())


def first_cells():
    return set(re.findall(r"^   \* - ``(.+)``$", README, re.MULTILINE))


def test_it_has_the_headings_that_every_plugin_has():
    assert re.findall(r"^(.+)\n-{3,}$", README, re.MULTILINE) == HEADINGS


def test_its_tables_name_every_key_header_metric_and_fact_and_no_other():
    keys = {f"[plugins.tier] {field.name}" for field in msgspec.structs.fields(TierConfig)}
    policy_keys = {f"[[routing.policies]] {field.name}" for field in msgspec.structs.fields(TierKeys)}
    metrics = {f"{measure.name}_total" for measure in STAGE.measures()}
    facts = set(STAGE.explain(make_intent()))

    assert first_cells() == keys | policy_keys | metrics | facts | {FLEXIBLE.title(), STRICT.title(), "X-Nexus-Tier"}


@pytest.mark.parametrize("field", msgspec.structs.fields(TierConfig), ids=lambda field: field.name)
def test_the_defaults_are_those_of_the_code(field):
    (default,) = re.findall(rf"``\[plugins.tier\] {field.name}``\n     - .+\n     - ``(.+)``\n", README)

    assert tomllib.loads(f"it = {default}")["it"] == field.default


def test_the_configuration_that_it_shows_is_one():
    blocks = re.findall(r"\.\. code-block:: toml\n\n((?:    .*\n|\n)+)", README)
    shown = tomllib.loads("".join(re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks))

    msgspec.convert(shown["plugins"]["tier"], TierConfig)
    for policy in shown["routing"]["policies"]:
        msgspec.convert({key: value for key, value in policy.items() if key != "model_pattern"}, TierKeys)
    assert shown["plugin_loading"]["required"] == ["tier>=0.1"]
