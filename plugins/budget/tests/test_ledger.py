"""The ledger is consistent at every instant, whichever processes write to it or are killed."""

import asyncio
import json
from decimal import Decimal

import pytest

from nexus.api import StoreError
from nexus_budget.book import Book
from nexus_budget.ledger import Ledger

MAY = "2026-05"
ONE = Decimal(1)


def drawn_by_all(store):
    """What the entries of all processes say that they have drawn."""
    return sum(Decimal(json.loads(value)["drawn_usd"]) for key, value in store.entries.items() if "/process/" in key)


async def test_what_is_drawn_is_committed_and_not_spent(store, ledger, book):
    await ledger.enter(book, ONE, Decimal(10))

    assert (store.number("spent"), store.number("committed"), drawn_by_all(store)) == (0, 1, 1)
    assert (book.free_usd, book.spent_usd, book.committed_usd) == (1, 0, 1)


async def test_what_is_spent_was_committed_before(store, ledger, book):
    await ledger.enter(book, ONE, Decimal(10))
    book.reserve(Decimal("0.5"))
    book.settle(Decimal("0.5"), Decimal("0.2"))

    await ledger.enter(book, Decimal(0), Decimal(10))

    assert (store.number("spent"), store.number("committed"), drawn_by_all(store)) == (
        Decimal("0.2"),
        1,
        Decimal("0.8"),
    )
    assert book.settled_usd == 0


async def test_what_was_not_drawn_is_committed_when_it_is_spent(store, ledger, book):
    book.settle(Decimal(0), Decimal(3))

    await ledger.enter(book, Decimal(0), None)

    assert (store.number("spent"), store.number("committed"), drawn_by_all(store)) == (3, 3, 0)


async def test_two_processes_that_draw_at_once_cannot_exceed_the_limit(store):
    books = [Book(MAY), Book(MAY)]

    await asyncio.gather(*(Ledger(store, str(n)).enter(book, Decimal(6), Decimal(10)) for n, book in enumerate(books)))

    assert sum(book.free_usd for book in books) == 10 == store.number("committed")


async def test_money_about_to_be_given_back_is_not_reserved(store, ledger, book):
    await Ledger(store, "other").enter(Book(MAY), Decimal(9), Decimal(10))
    frees = []
    apply = store.apply

    async def watched(changes):
        frees.append(book.free_usd)
        return await apply(changes)

    store.apply = watched
    await ledger.enter(book, Decimal(5), Decimal(10))

    assert max([*frees, book.free_usd]) == 1


async def test_a_book_that_is_closed_leaves_nothing_behind(store, ledger, book):
    await ledger.enter(book, ONE, Decimal(10))
    book.settle(Decimal(0), Decimal("0.25"))

    await ledger.close(book)

    assert (store.number("spent"), store.number("committed")) == (Decimal("0.25"), Decimal("0.25"))
    assert not any("/process/" in key for key in store.entries)
    assert book.is_idle


async def test_a_failed_entry_is_made_the_next_time(store, ledger, book):
    book.settle(Decimal(0), ONE)
    store.failing = True
    with pytest.raises(StoreError):
        await ledger.enter(book, Decimal(0), None)
    store.failing = False

    await ledger.enter(book, Decimal(0), None)

    assert (store.number("spent"), book.settled_usd) == (1, 0)


@pytest.mark.parametrize("turns", range(8))
async def test_an_entry_that_is_interrupted_anywhere_is_made_once(store, ledger, book, turns):
    await ledger.enter(book, ONE, Decimal(10))
    book.settle(Decimal(0), Decimal("0.25"))
    entering = asyncio.ensure_future(ledger.enter(book, Decimal(2), Decimal(10)))
    for _ in range(turns):
        await asyncio.sleep(0)
    entering.cancel()
    await asyncio.gather(entering, return_exceptions=True)
    book.settle(Decimal(0), Decimal("0.5"))

    await ledger.enter(book, Decimal(0), Decimal(10))

    assert store.number("spent") == Decimal("0.75")
    assert store.number("committed") == store.number("spent") + drawn_by_all(store)
    assert book.drawn_usd == drawn_by_all(store)


async def test_what_a_killed_process_had_drawn_counts_as_spent_once(store, book):
    await Ledger(store, "dead").enter(book, ONE, Decimal(10))
    survivors = [Ledger(store, "a"), Ledger(store, "b")]
    found = [await survivor.others() for survivor in survivors]

    counted = await asyncio.gather(
        *(s.count_as_spent(*key, e) for s, o in zip(survivors, found, strict=True) for key, e in o.items())
    )

    assert sorted(counted) == [False, True]
    assert (store.number("spent"), store.number("committed")) == (1, 1)
    assert await survivors[0].others() == {}


async def test_a_process_that_only_slept_takes_back_what_was_counted_in_its_place(store, ledger, book):
    await ledger.enter(book, ONE, Decimal(10))
    other = Ledger(store, "other")
    for key, entry in (await other.others()).items():
        await other.count_as_spent(*key, entry)

    book.settle(Decimal(0), Decimal("0.25"))
    await ledger.enter(book, Decimal(0), Decimal(10))

    assert (store.number("spent"), book.spent_usd) == (Decimal("0.25"), Decimal("0.25"))
    assert store.number("committed") == store.number("spent") + drawn_by_all(store) == 1


async def test_a_new_process_knows_what_was_spent_before(store, ledger, book):
    book.settle(Decimal(0), Decimal("0.1"))
    await ledger.close(book)
    later = Book(MAY)

    await Ledger(store, "later").read(later)

    assert (later.spent_usd, later.is_read) == (Decimal("0.1"), True)


async def test_what_is_given_back_does_not_pay_for_what_was_spent(store, ledger, book):
    await ledger.enter(book, ONE, Decimal(10))
    book.set_aside(ONE)
    book.settle(Decimal(0), Decimal("0.5"))

    await ledger.enter(book, -ONE, Decimal(10))

    assert (store.number("spent"), store.number("committed")) == (Decimal("0.5"), Decimal("0.5"))
    assert drawn_by_all(store) == book.drawn_usd == 0
