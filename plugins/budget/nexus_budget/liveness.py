"""Finds the ledger entries of processes that were killed: those that have not changed for too long."""

from collections.abc import Mapping

from nexus_budget.ledger import Entry


class Liveness:
    """Uses only the clock of this process, so machines need not agree on the time."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._seen: dict[tuple[str, str], tuple[int, float]] = {}
        """The order of each entry, and since when it has been that."""

    def dead(self, others: Mapping[tuple[str, str], Entry], now: float) -> list[tuple[str, str]]:
        """Return the keys of the entries of dead processes."""
        before, self._seen = self._seen, {}
        for key, entry in others.items():
            order, since = before.get(key, (entry.order, now))
            self._seen[key] = (order, since) if order == entry.order else (entry.order, now)
        return [key for key, (_, since) in self._seen.items() if now - since >= self._patience_s]
