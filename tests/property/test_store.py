"""Whatever is done to a store, in whatever order: it equals a dict, and its sums are those of one line of additions."""

import asyncio
import tempfile
from contextlib import suppress
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.errors import LimitReached
from nexus.store.memory import MemoryStore
from nexus.store.sqlite import SqliteStore
from nexus.store.store import Add, AddIfAtMost, Delete, Put

KEYS = st.sampled_from(["a", "a/", "a/b", "ab", "é"]) | st.text("ab/%_", min_size=1, max_size=4)
AMOUNTS = st.decimals(min_value=-1000, max_value=1000, places=4)
CHANGES = st.one_of(
    st.builds(Put, KEYS, st.decimals(min_value=0, max_value=9, places=1).map(lambda number: str(number).encode())),
    st.builds(Delete, KEYS),
    st.builds(Add, KEYS, AMOUNTS),
    st.builds(AddIfAtMost, KEYS, AMOUNTS, AMOUNTS),
)
STORES = pytest.mark.parametrize(
    "make", [lambda _: MemoryStore(), lambda folder: SqliteStore(Path(folder) / "s")], ids=["memory", "sqlite"]
)


def run(make, story):
    """Run *story*, a coroutine function, with a new open store."""

    async def opened():
        with tempfile.TemporaryDirectory() as folder:
            store = make(folder)
            await store.open()
            try:
                return await story(store)
            finally:
                await store.close()

    return asyncio.run(opened())


def applied(entries, batch):
    """Return what a dict of numbers is after *batch*: all of it, or nothing if it reaches a limit."""
    after = dict(entries)
    for change in batch:
        match change:
            case Put(key, value):
                after[key] = Decimal(value.decode())
            case Delete(key):
                after.pop(key, None)
            case Add(key, amount):
                after[key] = after.get(key, 0) + amount
            case AddIfAtMost(key, amount, limit):
                after[key] = after.get(key, 0) + amount
                if after[key] > limit:
                    return entries
    return after


@STORES
@settings(max_examples=30, deadline=None)
@given(batches=st.lists(st.lists(CHANGES, max_size=5), max_size=6), prefix=st.sampled_from(["", "a", "a/", "%", "é"]))
def test_a_store_equals_a_dict(make, batches, prefix):
    expected = {}
    for batch in batches:
        expected = applied(expected, batch)

    async def story(store):
        for batch in batches:
            with suppress(LimitReached):
                await store.apply(batch)
        return await store.scan(prefix)

    found = run(make, story)

    assert [(key, Decimal(value.decode())) for key, value in found] == sorted(
        (key, value) for key, value in expected.items() if key.startswith(prefix)
    )


@STORES
@settings(max_examples=20, deadline=None)
@given(amounts=st.lists(st.decimals(min_value="0.0001", max_value=1000, places=4), min_size=1, max_size=30))
def test_concurrent_additions_happen_one_after_the_other(make, amounts):
    async def story(store):
        return await asyncio.gather(*(store.add("n", amount) for amount in amounts))

    totals = run(make, story)

    # Positive amounts only increase a sum, so sorting the totals gives the order in which they happened.
    steps = [after - before for before, after in pairwise([Decimal(0), *sorted(totals)])]
    assert sorted(steps) == sorted(amounts)
