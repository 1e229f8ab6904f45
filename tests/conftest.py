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
