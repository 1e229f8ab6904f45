"""The description of every path."""
