"""A stage of Nexus that keeps what is spent on paid backends within a monthly budget."""

__version__ = "0.1.0"
