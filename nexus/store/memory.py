"""A store in memory, which is empty after a restart."""

from collections.abc import Sequence
from itertools import islice
from typing import assert_never

from nexus.errors import StoreError
from nexus.store.store import (
    MAX_BATCH,
    Add,
    AddIfAtMost,
    Change,
    Delete,
    Put,
    Store,
    Total,
    check_batch,
    number_text,
    page_size,
    total_of,
)


class MemoryStore(Store):
    """Keeps its entries in a dict. No method awaits anything, so each call is atomic."""

    survives_restart = False

    def __init__(self) -> None:
        self._entries: dict[str, bytes] | None = None

    async def open(self) -> None:
        self._entries = {}

    async def close(self) -> None:
        self._entries = None

    async def get(self, key: str) -> bytes | None:
        return self._opened().get(key)

    async def scan(self, prefix: str, *, after: str = "", limit: int = MAX_BATCH) -> tuple[tuple[str, bytes], ...]:
        matching = (item for item in sorted(self._opened().items()) if item[0].startswith(prefix) and item[0] > after)
        return tuple(islice(matching, page_size(limit)))

    async def apply(self, changes: Sequence[Change]) -> tuple[Total, ...]:
        check_batch(changes)
        entries = self._opened()
        written: dict[str, bytes | None] = {}
        totals = tuple(_write(entries, written, change) for change in changes)
        # Nothing below can fail, so the batch is applied whole.
        for key, value in written.items():
            if value is None:
                entries.pop(key, None)
            else:
                entries[key] = value
        return totals

    def _opened(self) -> dict[str, bytes]:
        if self._entries is None:
            raise StoreError("the memory store is not open")
        return self._entries


def _write(entries: dict[str, bytes], written: dict[str, bytes | None], change: Change) -> Total:
    """Record in *written* the new value of the key of *change*, None if it is deleted; return its total."""
    match change:
        case Put(key, value):
            written[key] = value
        case Delete(key):
            written[key] = None
        case Add(key) | AddIfAtMost(key):
            total = total_of(written[key] if key in written else entries.get(key), change)
            written[key] = number_text(total)
            return total
        case _:
            assert_never(change)
    return None
