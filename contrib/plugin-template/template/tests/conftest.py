"""What all tests share."""

pytest_plugins = ["nexus.testing.fixtures"]
