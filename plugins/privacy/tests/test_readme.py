"""The README is complete and agrees with the code."""

from pathlib import Path

from nexus.api import Reconciler
from nexus.testing.readme_contract import Readme, ReadmeContract
from nexus_privacy.config import PrivacyConfig
from nexus_privacy.counters import SOURCES, RestrictionCounters
from nexus_privacy.reconciler import HEADER, PrivacyReconciler

PATH = Path(__file__).parents[1] / "README.rst"
README = Readme(PATH)


class TestReadme(ReadmeContract):
    plugin = "privacy"
    path = PATH
    config = PrivacyConfig

    def make(self) -> Reconciler:
        return PrivacyReconciler(PrivacyConfig(), RestrictionCounters())


def test_every_header_and_every_source_is_explained():
    assert README.named("Request header") == {HEADER.title()}
    assert [source for source in SOURCES if f"``{source}``" not in README.text] == []


def test_it_shows_how_to_require_the_plugin():
    assert README.configuration()["plugin_loading"]["required"] == ["privacy>=0.1"]
