"""The contract for stores: subclass :class:`StoreContract` as ``TestSomething``."""

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import accumulate
from pathlib import Path

import pytest

from nexus.errors import LimitReached, StoreError
from nexus.store.store import (
    MAX_BATCH,
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    Add,
    AddIfAtMost,
    Change,
    Delete,
    Put,
    Store,
)


@pytest.mark.asyncio
class StoreContract(ABC):
    """A store keeps its entries, applies batches atomically, loses no addition, and reports failures."""

    @abstractmethod
    def make(self, folder: Path) -> Store:
        """Return an unopened store whose files are in *folder*; the same folder gives the same entries."""

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[Store]:
        store = self.make(folder)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    async def test_what_was_never_put_is_none(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            assert await store.get("budget/spent") is None

    @pytest.mark.parametrize("value", [b"", b"\x00\xff", b"x" * MAX_VALUE_BYTES])
    async def test_a_value_comes_back_byte_for_byte(self, tmp_path: Path, value: bytes) -> None:
        async with self.opened(tmp_path) as store:
            await store.put("a", b"old")
            await store.put("a", value)

            assert await store.get("a") == value

    @pytest.mark.parametrize("key", ["k" * MAX_KEY_BYTES, "%_*?[", "'; DROP TABLE entries --", "ключ 🔑", " "])
    async def test_a_key_is_text_and_nothing_more(self, tmp_path: Path, key: str) -> None:
        async with self.opened(tmp_path) as store:
            await store.put(key, b"1")

            assert await store.scan("") == ((key, b"1"),)

    async def test_a_check_leaves_everything_as_it_was(self, tmp_path: Path) -> None:
        await self.make(tmp_path).check()
        assert os.listdir(tmp_path) == []  # noqa: PTH208 - blocking is fine in a test

        async with self.opened(tmp_path) as store:
            await store.put("a", b"1")
            await self.make(tmp_path).check()

            assert await store.get("a") == b"1"

    async def test_keys_that_look_alike_are_different(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.apply([Put("é", b"1"), Put("e\u0301", b"2"), Put("É", b"3")])

            assert await store.get("é") == b"1"

    async def test_what_was_deleted_is_gone(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.put("a", b"1")
            await store.delete("a")
            await store.delete("never there")

            assert await store.get("a") is None

    async def test_a_number_begins_at_zero(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            assert await store.add("n", 3) == 3
            assert await store.add("n", -5) == -2
            assert await store.get("n") == b"-2"

    async def test_tenths_add_up_to_one(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for _ in range(10):
                total = await store.add("cost", Decimal("0.1"))

            assert total == 1

    async def test_a_sum_that_would_be_rounded_is_refused(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.add("cost", Decimal("1e40"))

            with pytest.raises(ValueError, match="cost"):
                await store.add("cost", Decimal("1e-40"))
            assert await store.add("cost", 0) == Decimal("1e40")

    @pytest.mark.parametrize("text", [b"gpu", b"", b"NaN", b"-Infinity", b"1e", b"\xff"])
    async def test_nothing_is_added_to_what_is_no_number(self, tmp_path: Path, text: bytes) -> None:
        async with self.opened(tmp_path) as store:
            await store.put("name", text)

            with pytest.raises(ValueError, match="name"):
                await store.add("name", 1)
            with pytest.raises(ValueError, match="name"):
                await store.add_if_at_most("name", 1, 10)

    async def test_a_number_that_was_put_is_added_to(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.apply([Put("n", b"+1.50"), Put("m", b"2e3"), Put("o", b"-.5")])

            assert await store.apply([Add("n", 1), Add("m", 1), Add("o", 1)]) == (
                Decimal("2.5"),
                Decimal(2001),
                Decimal("0.5"),
            )

    async def test_a_limit_is_reached_exactly_and_never_exceeded(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            assert await store.add_if_at_most("n", Decimal("0.7"), 1) == Decimal("0.7")
            with pytest.raises(LimitReached) as refused:
                await store.add_if_at_most("n", Decimal("0.300000000001"), 1)
            assert await store.add_if_at_most("n", Decimal("0.3"), 1) == 1

            assert (refused.value.key, refused.value.total) == ("n", Decimal("0.7"))
            assert await store.get("n") == b"1.0"

    async def test_a_limit_below_the_total_refuses_even_less(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.add("n", 5)

            with pytest.raises(LimitReached):
                await store.add_if_at_most("n", -1, 3)
            assert await store.add_if_at_most("n", -2, 3) == 3

    async def test_a_batch_whose_limit_is_reached_changes_nothing(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.apply([Put("a", b"old"), Add("n", 1)])

            with pytest.raises(LimitReached) as refused:
                await store.apply([Put("a", b"new"), Delete("n"), Add("n", 2), AddIfAtMost("n", 2, 3), Put("b", b"1")])

            assert refused.value.total == 2
            assert await store.scan("") == (("a", b"old"), ("n", b"1"))

    async def test_of_many_at_once_as_many_get_in_as_the_limit_allows(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            calls = (store.add_if_at_most("n", 1, 50) for _ in range(200))
            results = await asyncio.gather(*calls, return_exceptions=True)

            admitted = [result for result in results if isinstance(result, Decimal)]
            assert sorted(admitted) == list(range(1, 51))
            assert sum(isinstance(result, LimitReached) for result in results) == 150

    async def test_no_addition_is_lost(self, tmp_path: Path) -> None:
        amounts = [Decimal(n) / 10 for n in range(1, 101)]
        async with self.opened(tmp_path) as store:
            totals = await asyncio.gather(*(store.add("n", amount) for amount in amounts))

            assert max(totals) == sum(amounts)
            assert len(set(totals)) == len(amounts)

    async def test_changes_of_a_batch_see_each_other(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            batch: list[Change] = [Put("n", b"40"), Add("n", 2), Delete("gone"), Add("n", 1), Delete("n"), Add("n", 7)]

            assert await store.apply(batch) == (None, Decimal(42), None, Decimal(43), None, Decimal(7))
            assert await store.scan("") == (("n", b"7"),)

    async def test_a_batch_that_fails_changes_nothing(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.apply([Put("a", b"old"), Put("name", b"gpu")])

            with pytest.raises(ValueError, match="name"):
                await store.apply(
                    [Put("a", b"new"), Put("b", b"new"), Delete("name"), Put("name", b"x"), Add("name", 1)]
                )

            assert await store.scan("") == (("a", b"old"), ("name", b"gpu"))

    async def test_an_empty_batch_is_fine(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            assert await store.apply([]) == ()

    async def test_a_batch_has_a_limit(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            with pytest.raises(ValueError, match="limit"):
                await store.apply([Delete("a")] * (MAX_BATCH + 1))

    async def test_a_scan_goes_by_prefix_and_order_of_code_points(self, tmp_path: Path) -> None:
        keys = ["b", "a/", "a/é", "a/Z", "a/z", "a/🔑", "a", "a0"]
        async with self.opened(tmp_path) as store:
            await store.apply([Put(key, b"") for key in keys])

            assert [key for key, _ in await store.scan("a/")] == ["a/", "a/Z", "a/z", "a/é", "a/🔑"]

    async def test_a_scan_goes_on_where_the_last_page_ended(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.apply([Put(f"k{n}", b"") for n in range(5)])

            first = await store.scan("k", limit=3)
            second = await store.scan("k", after=first[-1][0], limit=3)

            assert [key for key, _ in (*first, *second)] == [f"k{n}" for n in range(5)]

    async def test_a_page_has_a_limit(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            for start in (0, MAX_BATCH):
                await store.apply([Put(f"{start + n:05}", b"") for n in range(MAX_BATCH)])

            assert len(await store.scan("", limit=10 * MAX_BATCH)) == MAX_BATCH
            assert await store.scan("", limit=-1) == ()

    async def test_a_closed_store_says_so(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            pass

        with pytest.raises(StoreError):
            await store.get("a")
        with pytest.raises(StoreError):
            await store.put("a", b"1")
        with pytest.raises(StoreError):
            await store.scan("a")

    async def test_closing_twice_is_fine(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.close()

    async def test_what_was_asked_before_closing_is_done(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        await store.open()
        adding = [asyncio.ensure_future(store.add("n", n)) for n in range(1, 21)]
        await asyncio.sleep(0)

        await store.close()

        assert await asyncio.gather(*adding) == list(accumulate(range(1, 21)))

    async def test_entries_come_back_with_the_store(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            await store.apply([Put("a", b"1"), Add("n", Decimal("0.25"))])
            await store.close()
            await store.open()

            assert await store.scan("") == ((("a", b"1"), ("n", b"0.25")) if store.survives_restart else ())

    async def test_a_caller_that_leaves_does_no_harm(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as store:
            leaving = [asyncio.ensure_future(store.apply([Add("a", 1), Add("b", 1)])) for _ in range(20)]
            await asyncio.sleep(0)
            for call in leaving[::2]:
                call.cancel()
            await asyncio.gather(*leaving, return_exceptions=True)

            assert await store.get("a") == await store.get("b")
            assert 10 <= await store.add("a", 0) <= 20
