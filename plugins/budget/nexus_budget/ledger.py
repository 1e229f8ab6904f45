"""The budget that all processes share: numbers for each month in the store, and an entry for each process.

``spent`` is the spending, and ``ended`` that of processes that have ended; ``committed`` adds to ``spent`` what the
processes have drawn. Each write changes the numbers and the process's own entry in one step, so they always agree, even
if a process is killed.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import msgspec

from nexus.api import Add, AddIfAtMost, Delete, LimitReached, Put, Store
from nexus_budget.book import Book, Draft
from nexus_budget.money import ZERO

PREFIX: Final = "budget"
PROCESSES: Final = f"{PREFIX}/process/"
MAX_DRAWS: Final = 3
"""Attempts to draw what is left, while other processes draw from it too."""


class Entry(msgspec.Struct, frozen=True):
    """What a process has drawn of a month's budget."""

    order: int
    """Grows with every write: if it stays the same, the process is dead."""
    drawn_usd: Decimal
    wanted_usd: Decimal
    """What it could not draw."""
    entered_usd: Decimal = ZERO
    """The spending that it has entered in this month."""


class Ledger:
    """The budget in the store.

    Every method may raise :class:`nexus.api.StoreError`; :meth:`resolve` then finds out whether its entry was made.
    """

    def __init__(self, store: Store, process_id: str) -> None:
        self._store = store
        self._id = process_id

    async def read(self, book: Book) -> None:
        """Read what all processes have spent and drawn."""
        names = ("spent", "committed", "ended")
        found = [await self._store.get(number_key(name, book.month)) for name in names]
        book.spent_usd, book.committed_usd, book.ended_usd = (Decimal((value or b"0").decode()) for value in found)
        book.is_read = True

    async def enter(self, book: Book, drawn: Decimal, ceiling: Decimal | None) -> None:
        """Enter all spending, and draw *drawn* or give it back; less is drawn if *ceiling* would be exceeded.

        Several processes may draw at once: the store itself keeps what they draw together within *ceiling*.
        """
        await self.resolve(book)
        # The entry that was just resolved may already have given back the excess.
        drawn = max(drawn, -book.excess_usd)
        for _ in range(MAX_DRAWS):
            if drawn <= 0 or ceiling is None:
                break
            draft = book.write(drawn)
            try:
                await self._make(book, draft, ceiling)
            except LimitReached as reached:
                book.dropped()
                book.committed_usd = reached.total
                drawn = max(ceiling - reached.total - (draft.settled - draft.covered), ZERO)
            else:
                return
        await self._make(book, book.write(drawn if ceiling is None else min(drawn, ZERO)))

    async def resolve(self, book: Book) -> None:
        """Find out whether an interrupted entry was made, if there is one."""
        draft = book.draft
        if draft is None:
            return
        value = await self._store.get(process_key(book.month, self._id))
        is_made = draft.is_last if value is None else msgspec.json.decode(value, type=Entry).order == draft.order
        if not is_made:
            book.dropped()
            return
        await self.read(book)
        book.entered(draft)

    async def close(self, book: Book) -> None:
        """Enter all spending, and give back everything drawn."""
        await self.resolve(book)
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
        drawn, record = entry.drawn_usd, process_key(month, process_id)
        first = AddIfAtMost(counted_key(month, process_id), drawn, limit=drawn)
        try:
            await self._store.apply(
                (
                    first,
                    Add(number_key("spent", month), drawn),
                    # This stays even if it takes back what it had drawn: after a loss, rather too much counts.
                    Add(number_key("ended", month), entry.entered_usd + drawn),
                    Delete(record),
                )
            )
        except LimitReached:
            await self._store.apply((Delete(record),))
            return False
        return True

    async def _make(self, book: Book, draft: Draft, ceiling: Decimal | None = None) -> None:
        month = book.month
        drawn, entered = book.drawn_usd - draft.covered + draft.drawn, book.entered_usd + draft.settled
        left = Entry(draft.order, drawn, draft.wanted, entered)
        record = process_key(month, self._id)
        committed_key, change = number_key("committed", month), draft.settled - draft.covered + draft.drawn
        # If this is cancelled or its outcome is unknown, the draft stays and is resolved later.
        spent, committed, ended, counted, _ = await self._store.apply(
            (
                Add(number_key("spent", month), draft.settled),
                Add(committed_key, change) if ceiling is None else AddIfAtMost(committed_key, change, ceiling),
                Add(number_key("ended", month), entered if draft.is_last else 0),
                Add(counted_key(month, self._id), 0),
                Delete(record) if draft.is_last else Put(record, msgspec.json.encode(left)),
            )
        )
        book.entered(draft)
        book.spent_usd, book.committed_usd, book.ended_usd = spent or ZERO, committed or ZERO, ended or ZERO
        book.is_read = True
        if counted:
            # Other processes counted this one as dead and booked what it had drawn: take that back.
            spent, _ = await self._store.apply(
                (Add(number_key("spent", month), -counted), Add(counted_key(month, self._id), -counted))
            )
            book.spent_usd = spent or ZERO


def process_key(month: str, process_id: str) -> str:
    """Return the key of a process's own entry."""
    return f"{PROCESSES}{month}/{process_id}"


def number_key(name: str, month: str) -> str:
    """Return the key of a number of all processes: ``spent``, ``committed`` or ``ended``."""
    return f"{PREFIX}/{name}/{month}"


def counted_key(month: str, process_id: str) -> str:
    """Return the key for what other processes booked in place of this one."""
    return f"{PREFIX}/counted/{month}/{process_id}"


def _owner(key: str) -> tuple[str, str]:
    month, _, process_id = key.removeprefix(PROCESSES).partition("/")
    return month, process_id
