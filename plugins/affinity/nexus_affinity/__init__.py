"""A stage of Nexus that prefers the backend which has the beginning of a prompt in its cache."""

__version__ = "0.1.0"
