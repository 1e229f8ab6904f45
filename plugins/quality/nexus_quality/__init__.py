"""A stage of Nexus that avoids and weighs down backends which have been failing or slow."""

__version__ = "0.1.0"
