"""The README is complete and agrees with the code."""

import re
from pathlib import Path

from nexus.api import Reconciler
from nexus.testing.readme_contract import Readme, ReadmeContract
from nexus_quality.config import QualityConfig
from nexus_quality.measurements import MAX_TRACKED, Measurements
from nexus_quality.reconciler import MAX_EXPLAINED, QualityReconciler
from nexus_quality.track import Figures

ROOT = Path(__file__).parents[1]
README = Readme(ROOT / "README.rst")
SOURCES = "".join(path.read_text() for path in (ROOT / "nexus_quality").glob("*.py"))


class TestReadme(ReadmeContract):
    plugin = "quality"
    path = ROOT / "README.rst"
    config = QualityConfig

    def make(self) -> Reconciler:
        return QualityReconciler(QualityConfig(), Measurements())


def test_every_figure_is_explained():
    assert README.named("Figure") == set(Figures.__struct_fields__)


def test_every_log_event_is_explained():
    assert README.named("Log event") == set(re.findall(r'"(quality_\w+)"', SOURCES))


def test_the_limits_are_those_of_the_code():
    assert f"{MAX_TRACKED:,}".replace(",", " ") in README.text
    assert f"{MAX_EXPLAINED} at most" in README.text
