"""The log events of a test, and those that are still to come: what is logged is often logged a moment later."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nexus.testing.waiting import until

Entry = Mapping[str, Any]


class Events:
    """All that was logged so far, oldest first."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def named(self, event: str) -> list[Entry]:
        """Return those of one name."""
        return [entry for entry in self if entry["event"] == event]

    def wait_for(self, event: str, within_s: float = 5.0) -> list[Entry]:
        """Return those of one name as soon as there is one. Raise AssertionError when that takes too long."""
        return until(lambda: self.named(event), within_s)
