"""A failure of the store is logged once, counted, and remembered until the next success."""

import pytest
from structlog.testing import capture_logs

from nexus.errors import StoreError
from nexus.store.memory import MemoryStore
from nexus.store.watched import WatchedStore


class Sick(MemoryStore):
    is_sick = True

    async def get(self, key):
        if self.is_sick:
            raise StoreError("the disk is gone; buy another")
        return await super().get(key)


async def test_a_failure_is_logged_once_until_the_next_success():
    sick = Sick()
    store = WatchedStore(sick)
    await store.open()

    with capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(StoreError):
                await store.get("a")
        assert (store.failure, store.failures_total) == ("the disk is gone; buy another", 2)
        sick.is_sick = False
        await store.get("a")

    assert store.failure is None
    assert [line["event"] for line in logs] == ["store_failed", "store_recovered"]


async def test_a_failure_that_another_process_logs_is_only_counted():
    sick = Sick()
    store = WatchedStore(sick, is_logged=False)
    await store.open()

    with capture_logs() as logs:
        with pytest.raises(StoreError):
            await store.get("a")
        sick.is_sick = False
        await store.get("a")

    assert (store.failures_total, logs) == (1, [])


async def test_a_fault_of_the_caller_is_no_failure_of_the_store():
    store = WatchedStore(MemoryStore())
    await store.open()
    await store.put("name", b"gpu")

    with pytest.raises(ValueError, match="name"):
        await store.add("name", 1)

    assert (store.failure, store.survives_restart) == (None, False)


def test_further_attributes_of_the_store_are_passed_on():
    assert WatchedStore(Sick()).is_sick
