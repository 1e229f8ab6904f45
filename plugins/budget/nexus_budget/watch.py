"""Tells which entries of the ledger have stayed as they are for too long: those of processes that were killed."""

from collections.abc import Mapping

from nexus_budget.ledger import Entry


class Watch:
    """Goes by this process's own clock, so that no two machines must agree on the time."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._seen: dict[tuple[str, str], tuple[int, float]] = {}
        """The order of each entry, and since when it is that."""

    def gone(self, others: Mapping[tuple[str, str], Entry], now: float) -> list[tuple[str, str]]:
        """Return whose of the entries are those of processes that are gone."""
        before, self._seen = self._seen, {}
        for whose, entry in others.items():
            order, since = before.get(whose, (entry.order, now))
            self._seen[whose] = (order, since) if order == entry.order else (entry.order, now)
        return [whose for whose, (_, since) in self._seen.items() if now - since >= self._patience_s]
