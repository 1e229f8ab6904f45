"""The budget that all processes share: three numbers for each month in the store, and an entry for each process.

``spent`` is what was spent; ``committed`` is that and what the processes have drawn to spend it. Every entry changes
the numbers and the process's own record in one step, so at each instant they agree, also when a process is killed.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import msgspec

from nexus.api import Add, Delete, Put, Store
from nexus_budget.book import Book, Draft
from nexus_budget.money import ZERO

PREFIX: Final = "budget"
PROCESSES: Final = f"{PREFIX}/process/"


class Entry(msgspec.Struct, frozen=True):
    """What a process has drawn of a month's budget."""

    order: int
    """Grows with every entry: one that stays is of a process that is gone."""
    drawn_usd: Decimal
    wanted_usd: Decimal
    """What it could not have."""


class Ledger:
    """The store, as the budget uses it. Every method may raise :class:`nexus.api.StoreError`: then nothing changed."""

    def __init__(self, store: Store, process_id: str) -> None:
        self._store = store
        self._id = process_id

    async def read(self, book: Book) -> None:
        """Read what all have spent and drawn."""
        spent, committed = [await self._store.get(_number(name, book.month)) for name in ("spent", "committed")]
        book.spent_usd = Decimal((spent or b"0").decode())
        book.committed_usd = Decimal((committed or b"0").decode())
        book.is_read = True

    async def enter(self, book: Book, drawn: Decimal, ceiling: Decimal | None) -> None:
        """Enter all that was spent, and draw so much or give so much back.

        Several may draw at once. Who then finds more drawn than there is takes back what is too much of its own.
        """
        await self.resolve(book, ceiling)
        # What was set aside may have been given back by the entry that has just been found to be made.
        drawn = max(drawn, -book.excess_usd)
        await self._make(book, book.write(drawn), ceiling)
        if drawn > 0 and book.excess_usd:
            await self._make(book, book.write(-book.excess_usd))

    async def resolve(self, book: Book, ceiling: Decimal | None) -> None:
        """Find out whether an entry was made whose maker did not hear of it, if there is one."""
        draft = book.draft
        if draft is None:
            return
        value = await self._store.get(f"{PROCESSES}{book.month}/{self._id}")
        is_made = draft.is_last if value is None else msgspec.json.decode(value, type=Entry).order == draft.order
        if not is_made:
            book.dropped()
            return
        await self.read(book)
        book.entered(draft)
        _take_back(book, draft, ceiling)

    async def close(self, book: Book) -> None:
        """Enter all that was spent, and give back all that was drawn."""
        await self.resolve(book, None)
        kept = max(book.drawn_usd - book.settled_usd, ZERO)
        book.set_aside(kept - book.excess_usd)
        await self._make(book, book.write(-kept, is_last=True))

    async def others(self) -> Mapping[tuple[str, str], Entry]:
        """Return the entries of all other processes, by month and process."""
        found = await self._store.scan(PROCESSES)
        entries = {_whose(key): msgspec.json.decode(value, type=Entry) for key, value in found}
        return {whose: entry for whose, entry in entries.items() if whose[1] != self._id}

    async def count_as_spent(self, month: str, process_id: str, entry: Entry) -> bool:
        """Count what a process that is gone had drawn as spent, and say whether nobody else had done that.

        Nobody can know how much of it was spent, so all of it is. A process that only slept takes it back.
        """
        drawn, counted, spent = entry.drawn_usd, _counted(month, process_id), _number("spent", month)
        total, *_ = await self._store.apply(
            (Add(counted, drawn), Add(spent, drawn), Delete(f"{PROCESSES}{month}/{process_id}"))
        )
        if total == drawn:
            return True
        await self._store.apply((Add(counted, -drawn), Add(spent, -drawn)))
        return False

    async def _make(self, book: Book, draft: Draft, ceiling: Decimal | None = None) -> None:
        month = book.month
        left = Entry(draft.order, book.drawn_usd - draft.covered + draft.drawn, draft.wanted)
        record = f"{PROCESSES}{month}/{self._id}"
        # Nothing is forgotten if this is cancelled: the draft stays, and whether it was made is found out.
        spent, committed, counted, _ = await self._store.apply(
            (
                Add(_number("spent", month), draft.settled),
                Add(_number("committed", month), draft.settled - draft.covered + draft.drawn),
                Add(_counted(month, self._id), 0),
                Delete(record) if draft.is_last else Put(record, msgspec.json.encode(left)),
            )
        )
        book.entered(draft)
        book.spent_usd, book.committed_usd, book.is_read = spent or ZERO, committed or ZERO, True
        _take_back(book, draft, ceiling)
        if counted:
            # Others took this process for dead and counted what it had drawn: it lives, and knows better.
            spent, _ = await self._store.apply(
                (Add(_number("spent", month), -counted), Add(_counted(month, self._id), -counted))
            )
            book.spent_usd = spent or ZERO


def _take_back(book: Book, draft: Draft, ceiling: Decimal | None) -> None:
    """Set aside what *draft* has drawn too much, before anything is awaited: nobody may be promised that."""
    if ceiling is not None:
        book.set_aside(max(min(book.committed_usd - ceiling, draft.drawn), ZERO))


def _number(name: str, month: str) -> str:
    return f"{PREFIX}/{name}/{month}"


def _counted(month: str, process_id: str) -> str:
    """Return the key under which others note what they counted in the place of a process."""
    return f"{PREFIX}/counted/{month}/{process_id}"


def _whose(key: str) -> tuple[str, str]:
    month, _, process_id = key.removeprefix(PROCESSES).partition("/")
    return month, process_id
