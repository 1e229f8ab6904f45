"""The README is complete and agrees with the code."""

from pathlib import Path

from nexus.api import Reconciler
from nexus.testing.readme_contract import Readme, ReadmeContract
from nexus_tier.config import TierConfig
from nexus_tier.counters import TierCounters
from nexus_tier.floor import FLEXIBLE, STRICT
from nexus_tier.reconciler import TierReconciler

PATH = Path(__file__).parents[1] / "README.rst"
README = Readme(PATH)


class TestReadme(ReadmeContract):
    plugin = "tier"
    path = PATH
    config = TierConfig

    def make(self) -> Reconciler:
        return TierReconciler(TierConfig(), TierCounters())


def test_every_header_is_explained():
    assert README.named("Header") == {FLEXIBLE.title(), STRICT.title(), "X-Nexus-Tier"}


def test_it_shows_how_to_require_the_plugin():
    assert README.configuration()["plugin_loading"]["required"] == ["tier>=0.1"]
