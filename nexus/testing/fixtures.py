"""Fixtures for the tests of a plugin: ``pytest_plugins = ["nexus.testing.fixtures"]``."""

from collections.abc import Callable

import pytest

from nexus.routing.intent import RoutingIntent
from nexus.testing.builders import make_intent


@pytest.fixture
def intent() -> Callable[..., RoutingIntent]:
    """Give what makes an intent: ``intent(received_at="2026-05-01T03:00", backends={"gpu-1": "local"})``.

    See :func:`nexus.testing.builders.make_intent` for all that can be said.
    """
    return make_intent
