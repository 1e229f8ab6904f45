"""What all tests share."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "nexus",
    deadline=None,  # machines are shared: time is measured in benchmarks, never in tests
    suppress_health_check=[HealthCheck.too_slow],
)
# Where another interpreter has seen all examples already.
settings.register_profile("brief", settings.get_profile("nexus"), max_examples=20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "nexus"))

pytest_plugins = ["nexus.testing.fixtures"]


def pytest_collection_modifyitems(items):
    """Begin with the modules that may take longest: on several cores, none of them is left for the end."""
    limits = {}
    for item in items:
        marker = item.get_closest_marker("timeout")
        limits[item.path] = max(limits.get(item.path, 0), marker.args[0] if marker else 0)
    items.sort(key=lambda item: -limits[item.path])
