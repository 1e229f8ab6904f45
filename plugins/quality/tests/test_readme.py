"""The README says what an operator looks for, and what it shows is so."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from nexus.testing.builders import make_intent
from nexus_quality.config import QualityConfig
from nexus_quality.ledger import MOST_TRACKED, Ledger
from nexus_quality.reconciler import MOST_EXPLAINED, QualityReconciler
from nexus_quality.track import Figures

README = (Path(__file__).parents[1] / "README.rst").read_text()
SOURCES = "".join(path.read_text() for path in (Path(__file__).parents[1] / "nexus_quality").glob("*.py"))
STAGE = QualityReconciler(QualityConfig(), Ledger())
KEYS = msgspec.structs.fields(QualityConfig)


def table(head):
    """The names with which the rows of the table of that head begin."""
    _, _, rest = README.partition(f"   * - {head}\n")
    rows, _, _ = rest.partition("\n\n")
    cells = re.findall(r"^   \* - (.+)$", rows, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"``([^`]+)``", cell)}


def test_every_key_is_explained():
    assert table("Key") == {f"[plugins.quality] {key.name}" for key in KEYS}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_the_defaults_are_those_of_the_code(key):
    (default,) = re.findall(rf"``\[plugins.quality\] {key.name}``\n     - .+\n     - ``(.+)``\n", README)

    assert tomllib.loads(f"it = {default}")["it"] == key.default


def test_the_configuration_that_it_shows_is_one():
    (shown,) = re.findall(r"\.\. code-block:: toml\n\n((?:    .+\n)+)", README)

    msgspec.convert(tomllib.loads(shown.replace("    ", ""))["plugins"]["quality"], QualityConfig)


def test_every_figure_is_explained():
    assert table("Figure") == set(Figures.__struct_fields__)


def test_every_metric_is_explained():
    measured = {f"{m.name}_total" if m.type == "counter" else m.name for m in STAGE.measures()}

    assert table("Metric, by ``backend`` and ``model``") == measured


def test_every_fact_of_an_explanation_is_explained():
    assert table("In ``explain``") == set(STAGE.explain(make_intent()))


def test_every_log_event_is_explained():
    assert table("Log event") == set(re.findall(r'"(quality_\w+)"', SOURCES))


def test_the_limits_are_those_of_the_code():
    assert f"{MOST_TRACKED:,}".replace(",", " ") in README
    assert f"{MOST_EXPLAINED} at most" in README
