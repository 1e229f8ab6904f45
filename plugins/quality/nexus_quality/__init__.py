"""A stage of Nexus that avoids backends that fail often and ranks slow ones lower."""

__version__ = "0.1.0"
