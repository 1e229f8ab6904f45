"""Pipelines of the stages of a test alone, on a clock that the test moves."""

import pytest

from nexus.routing.pipeline import Pipeline
from nexus.routing.stage.order import in_order
from tests.support.fakes import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def pipeline(plugin, clock):
    """Give a function that makes a pipeline of the given stages alone."""

    def make(*stages, **operator):
        return Pipeline(in_order((), [(plugin(stage.name), stage) for stage in stages], **operator), clock)

    return make
