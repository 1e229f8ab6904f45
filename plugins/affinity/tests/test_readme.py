"""The README is complete and agrees with the code."""

import re
from pathlib import Path

from nexus.api import Reconciler
from nexus.testing.readme_contract import Readme, ReadmeContract
from nexus_affinity import costs
from nexus_affinity.caches import ENTRY_BYTES
from nexus_affinity.config import AffinityConfig
from nexus_affinity.fleet_caches import MAX_CONVERSATIONS, FleetCaches
from nexus_affinity.reconciler import MAX_EXPLAINED, AffinityReconciler

ROOT = Path(__file__).parents[1]
README = Readme(ROOT / "README.rst")


class TestReadme(ReadmeContract):
    plugin = "affinity"
    path = ROOT / "README.rst"
    config = AffinityConfig

    def make(self) -> Reconciler:
        return AffinityReconciler(AffinityConfig(), FleetCaches())


def test_the_limits_are_those_of_the_code():
    assert f"{MAX_CONVERSATIONS:,}".replace(",", " ") in README.text
    assert f"{MAX_EXPLAINED} at most" in README.text
    assert f"{ENTRY_BYTES} bytes for each KiB" in README.text


def test_the_weights_are_those_of_the_code():
    (unread,) = re.findall(r"\+ ([\d.]+) for each block", README.text)
    request, recent = re.findall(r"\+ ([\d.]+) and ([\d.]+) of the prompt", README.text)

    assert float(unread) == costs.UNREAD_WEIGHT
    assert [float(weight) for weight in request] == [costs.REQUEST_BLOCKS, costs.REQUEST_SHARE]
    assert [float(weight) for weight in recent] == [costs.RECENT_BLOCKS, costs.RECENT_SHARE]
    assert f"{costs.CONVERSATION_BLOCKS} is subtracted" in README.text
    assert f"at\n   least by {costs.MIN_FACTOR}" in README.text
