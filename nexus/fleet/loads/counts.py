"""Counts the reads of reports by their result."""

from collections import defaultdict
from enum import StrEnum
from typing import Final

MAX_BACKENDS: Final = 1_000
"""Backends that are counted; beyond that, the oldest is forgotten."""


class ReadResult(StrEnum):
    """How one read ended."""

    SUCCESS = "success"
    UNREADABLE = "unreadable"
    """The server has answered with something else than a report."""
    ABSENT = "absent"
    """The server does not have the page."""
    FAILURE = "failure"


class ReadCounts:
    """By the name of the backend, so that the counts continue when it comes back."""

    def __init__(self) -> None:
        self.results: dict[str, dict[ReadResult, int]] = {}

    def note(self, backend: str, result: ReadResult) -> None:
        """Count one read."""
        results = self.results.get(backend)
        if results is None:
            if len(self.results) >= MAX_BACKENDS:
                del self.results[next(iter(self.results))]
            results = self.results[backend] = defaultdict(int)
        results[result] += 1
