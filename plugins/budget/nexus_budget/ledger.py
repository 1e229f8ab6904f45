"""The budget that all processes share: numbers for each month in the store, and an entry for each process.

``spent`` is the spending; ``committed`` adds what the processes have drawn. Each write changes the numbers and the
process's own entry in one step, so they always agree, even if a process is killed.
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
    """Grows with every write: if it stays the same, the process is dead."""
    drawn_usd: Decimal
    wanted_usd: Decimal
    """What it could not draw."""


class Ledger:
    """The budget in the store. Every method may raise :class:`nexus.api.StoreError`; then nothing has changed."""

    def __init__(self, store: Store, process_id: str) -> None:
        self._store = store
        self._id = process_id

    async def read(self, book: Book) -> None:
        """Read what all processes have spent and drawn."""
        spent, committed = [await self._store.get(_number(name, book.month)) for name in ("spent", "committed")]
        book.spent_usd = Decimal((spent or b"0").decode())
        book.committed_usd = Decimal((committed or b"0").decode())
        book.is_read = True

    async def enter(self, book: Book, drawn: Decimal, ceiling: Decimal | None) -> None:
        """Enter all spending, and draw *drawn* or give it back.

        Several processes may draw at once; one that then finds too much drawn gives back the excess of its own.
        """
        await self.resolve(book, ceiling)
        # The entry that was just resolved may already have given back the excess.
        drawn = max(drawn, -book.excess_usd)
        await self._make(book, book.write(drawn), ceiling)
        if drawn > 0 and book.excess_usd:
            await self._make(book, book.write(-book.excess_usd))

    async def resolve(self, book: Book, ceiling: Decimal | None) -> None:
        """Find out whether an interrupted entry was made, if there is one."""
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
        """Enter all spending, and give back everything drawn."""
        await self.resolve(book, None)
        kept = max(book.drawn_usd - book.settled_usd, ZERO)
        book.set_aside(kept - book.excess_usd)
        await self._make(book, book.write(-kept, is_last=True))

    async def others(self) -> Mapping[tuple[str, str], Entry]:
        """Return the entries of all other processes, by month and process."""
        found = await self._store.scan(PROCESSES)
        entries = {_owner(key): msgspec.json.decode(value, type=Entry) for key, value in found}
        return {owner: entry for owner, entry in entries.items() if owner[1] != self._id}

    async def count_as_spent(self, month: str, process_id: str, entry: Entry) -> bool:
        """Book what a dead process had drawn as spent, and return whether no other process did that first.

        How much of it was spent is unknown, so all of it counts. A process that was only suspended takes it back.
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
        # If this is cancelled, the draft stays and is resolved later.
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
            # Other processes counted this one as dead and booked what it had drawn: take that back.
            spent, _ = await self._store.apply(
                (Add(_number("spent", month), -counted), Add(_counted(month, self._id), -counted))
            )
            book.spent_usd = spent or ZERO


def _take_back(book: Book, draft: Draft, ceiling: Decimal | None) -> None:
    """Set aside what *draft* drew above the ceiling, before any await, so that it cannot be reserved."""
    if ceiling is not None:
        book.set_aside(max(min(book.committed_usd - ceiling, draft.drawn), ZERO))


def _number(name: str, month: str) -> str:
    return f"{PREFIX}/{name}/{month}"


def _counted(month: str, process_id: str) -> str:
    """Return the key for what other processes booked in place of this one."""
    return f"{PREFIX}/counted/{month}/{process_id}"


def _owner(key: str) -> tuple[str, str]:
    month, _, process_id = key.removeprefix(PROCESSES).partition("/")
    return month, process_id
