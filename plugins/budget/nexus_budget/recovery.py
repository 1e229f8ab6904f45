"""Enters again what the store has lost: a fail-over to a server that lacks the last changes, or a restart without data.

Each process keeps how much it has entered, and so does its entry in the store. If the entry is older than what the
process knows to be entered, or is missing, the store has lost the difference. What ended processes had spent is one
number that all know; the first process that finds a store without an entry of its own enters it.
"""

from contextlib import suppress
from decimal import Decimal
from typing import Final

import msgspec

from nexus.api import Add, AddIfAtMost, LimitReached, Put, Store
from nexus_budget.book import Book
from nexus_budget.ledger import PREFIX, Entry, counted_key, number_key, process_key
from nexus_budget.money import ZERO

HOLD_INTERVALS: Final = 2
"""After a loss, draw nothing for so many sync intervals: the other processes enter theirs again meanwhile."""


async def restore(store: Store, process_id: str, book: Book) -> Decimal | None:
    """Enter again what is missing of *book* in *store*, and return how much was spent of that; None if nothing is.

    It may be interrupted anywhere: the next call continues. A draft must have been resolved before.
    """
    if not book.entered_order:
        return None
    key = process_key(book.month, process_id)
    value = await store.get(key)
    if value is None and await store.get(counted_key(book.month, process_id)) is not None:
        # Another process took this one for dead, and booked what it had drawn.
        return None
    left = None if value is None else msgspec.json.decode(value, type=Entry)
    if left is not None and left.order >= book.entered_order:
        return None
    missing = book.entered_usd - (left.entered_usd if left is not None else ZERO)
    drawn = book.drawn_usd - (left.drawn_usd if left is not None else ZERO)
    if left is None:
        await _restore_ended(store, book)
    book.order += 1
    entry = Entry(book.order, book.drawn_usd, book.announced_usd, book.entered_usd)
    spent, committed, *_ = await store.apply(
        (
            Add(number_key("spent", book.month), missing),
            Add(number_key("committed", book.month), missing + drawn),
            Add(counted_key(book.month, process_id), 0),
            Put(key, msgspec.json.encode(entry)),
        )
    )
    book.entered_order = book.order
    book.spent_usd, book.committed_usd = spent or ZERO, committed or ZERO
    return missing


async def _restore_ended(store: Store, book: Book) -> None:
    """Enter what was spent by processes that have ended, unless another process has done so."""
    numbers = (Add(number_key(name, book.month), book.ended_usd) for name in ("spent", "committed", "ended"))
    with suppress(LimitReached):
        await store.apply((AddIfAtMost(f"{PREFIX}/restored/{book.month}", 1, limit=1), *numbers))
