"""Captured log events, with a way to wait for one: many are logged shortly after the response."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nexus.testing.waiting import until

Entry = Mapping[str, Any]


class Events:
    """The log events so far, oldest first."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def named(self, event: str) -> list[Entry]:
        """Return the events of one name."""
        return [entry for entry in self if entry["event"] == event]

    def wait_for(self, event: str, within_s: float = 5.0) -> list[Entry]:
        """Wait for an event, and return all of its name. Raise AssertionError on timeout."""
        return until(lambda: self.named(event), within_s)
