"""A stage of Nexus that keeps spending on paid backends within a monthly budget."""

__version__ = "0.1.0"
