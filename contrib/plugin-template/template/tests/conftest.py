"""Fixtures of all tests."""

pytest_plugins = ["nexus.testing.fixtures"]
