"""Nexus detects the kind of each simulated server, and finds its models."""

import pytest

from nexus.fleet.fetching import Fetcher, Target
from nexus.fleet.kinds import KINDS
from nexus.fleet.probing.detection import detect
from nexus.simulator import Settings, Simulator
from nexus.simulator.kinds import KINDS as SIMULATED_KINDS


@pytest.mark.parametrize("kind", SIMULATED_KINDS)
async def test_a_simulated_kind_is_detected_and_its_models_are_read(kind):
    async with Simulator(Settings(kind=kind, models=("llama3",))) as simulator, Fetcher(timeout_s=5) as fetcher:
        target = Target(simulator.url)

        detected = await detect(fetcher, target)
        listing = KINDS[kind].listing
        models = listing.decode((await fetcher.get(target, listing.path)).body)

    assert detected.kind == kind
    assert [model.name.removesuffix(":latest") for model in models] == ["llama3"]
