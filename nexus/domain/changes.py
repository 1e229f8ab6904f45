"""Counts changes of the live figures: what follows from them for many backends is kept until then."""

from typing import Final


class Changes:
    """How often figures have changed in this process."""

    __slots__ = ("books", "capacities", "failures", "reports")

    def __init__(self) -> None:
        self.books = 0
        """How often a backend got or lost the figures of a model."""
        self.capacities = 0
        """How often the capacity of a model was learned anew."""
        self.failures = 0
        """How often a model failed."""
        self.reports = 0
        """How often an engine reported its load, or what it had reported was dropped."""


CHANGES: Final = Changes()
