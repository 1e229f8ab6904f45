"""Settings of all tests.

pytest imports this file as ``tests.conftest``, so that tests can import ``tests.support`` although the root of the
repository is not on ``sys.path``, where it would hide the installed nexus.
"""

import gc
import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "nexus",
    deadline=None,  # time is measured in benchmarks, not in tests on shared machines
    suppress_health_check=[HealthCheck.too_slow],
)
# For further interpreters: the first one has run all examples.
settings.register_profile("brief", settings.get_profile("nexus"), max_examples=20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "nexus"))

pytest_plugins = ["nexus.testing.fixtures"]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection():
    """Keep what lives as long as the tests from garbage collections, which take half of the time otherwise."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    """Start with the modules that may take longest, so that several cores finish together."""
    limits = {}
    for item in items:
        marker = item.get_closest_marker("timeout")
        limits[item.path] = max(limits.get(item.path, 0), marker.args[0] if marker else 0)
    items.sort(key=lambda item: -limits[item.path])


def pytest_make_parametrize_id(val):
    """Leave bytes that are no text out of a test's name: if they hold the time, two processes would name it apart."""
    if isinstance(val, bytes) and not val.isascii():
        return ""
    return None
