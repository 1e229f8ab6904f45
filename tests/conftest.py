"""What all tests share."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "nexus",
    deadline=None,  # machines are shared: time is measured in benchmarks, never in tests
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("nexus")

pytest_plugins = ["nexus.testing.fixtures"]
