"""What clients refer to leads to the backend that keeps it: bounded, for a time, across restarts and replicas."""

import asyncio

import pytest

from nexus.domain.request import Kept, Reference
from nexus.errors import RequestError, StoreError
from nexus.proxy.exchange import resource_owners as module
from nexus.proxy.exchange.resource_owners import PREFIX, TTL_S, ResourceOwners
from nexus.store.memory import MemoryStore


class SharedStore(MemoryStore):
    """A store that another process has opened as well."""

    survives_restart = True

    async def open(self):
        self._entries = self._entries if self._entries is not None else {}


class BrokenStore(SharedStore):
    async def apply(self, changes):
        raise StoreError("the disk is full")


@pytest.fixture
def clock(monkeypatch):
    """Give a clock that a test sets."""
    now = [1_000_000]
    monkeypatch.setattr(module, "_now", lambda: now[0])
    return now


@pytest.fixture
async def store():
    store = SharedStore()
    await store.open()
    return store


async def found(owners, *ids):
    return await owners.find([Reference(id_, "conversation") for id_ in ids])


async def test_what_was_learnt_is_found_and_anything_else_is_not():
    owners = ResourceOwners()

    owners.learn(["resp_1"], "gpu-1", "llama3")

    assert await found(owners, "resp_1") == Kept(Reference("resp_1", "conversation"), "gpu-1", "llama3")
    assert await found(owners, "resp_2") is None
    assert await found(owners, "resp_2", "resp_1") is not None


async def test_two_that_are_kept_apart_cannot_be_had_together():
    owners = ResourceOwners()
    owners.learn(["file-1"], "gpu-1", "")
    owners.learn(["file-2"], "gpu-2", "")

    with pytest.raises(RequestError, match="'file-1' is kept by backend 'gpu-1' and 'file-2' by 'gpu-2'") as refused:
        await found(owners, "file-1", "file-2")
    assert (refused.value.code, refused.value.status) == ("object_not_found", 404)


async def test_what_was_deleted_is_forgotten(store):
    owners = ResourceOwners(store)
    await owners.open()
    owners.learn(["file-1"], "gpu-1", "")
    owners.forget("file-1")
    await owners.close()

    assert await found(owners, "file-1") is None
    assert await store.scan(PREFIX) == ()


async def test_a_restart_and_another_replica_find_it(store):
    first, other = ResourceOwners(store), ResourceOwners(store)
    await first.open()
    await other.open()
    first.learn(["resp_1"], "gpu-1", "llama3")
    await first.close()
    restarted = ResourceOwners(store)
    await restarted.open()

    assert (await found(restarted, "resp_1")).backend == "gpu-1"
    assert (await found(other, "resp_1")).backend == "gpu-1"
    await restarted.close()
    await other.close()


async def test_it_is_forgotten_after_its_time(store, clock):
    owners = ResourceOwners(store)
    await owners.open()
    owners.learn(["resp_1"], "gpu-1", "llama3")

    clock[0] += TTL_S
    assert await found(owners, "resp_1") is None
    owners.learn(["resp_2"], "gpu-1", "llama3")
    await owners.close()

    assert [key for key, _ in await store.scan(PREFIX)] == [f"{PREFIX}resp_2"]


async def test_there_are_never_more_than_so_many_here_and_in_the_store(store, monkeypatch):
    monkeypatch.setattr(module, "MAX_KEPT", 3)
    owners = ResourceOwners(store)
    await owners.open()
    for number in range(10):
        owners.learn([f"resp_{number}"], "gpu-1", "llama3")
    await owners.close()

    assert [key.removeprefix(PREFIX) for key, _ in await store.scan(PREFIX)] == ["resp_7", "resp_8", "resp_9"]
    assert await found(owners, "resp_0") is None


async def test_a_store_that_fails_takes_nothing_from_this_process():
    store = BrokenStore()
    await store.open()
    owners = ResourceOwners(store)
    await owners.open()
    owners.learn(["resp_1"], "gpu-1", "llama3")
    await owners.close()

    assert (await found(owners, "resp_1")).backend == "gpu-1"


async def test_what_another_release_has_written_is_nothing(store):
    await store.put(f"{PREFIX}resp_1", b"{")
    owners = ResourceOwners(store)
    await owners.open()

    assert await found(owners, "resp_1") is None
    await owners.close()


async def test_a_list_does_not_take_the_model_from_what_is_known():
    owners = ResourceOwners()
    owners.learn(["resp_1"], "gpu-1", "llama3")
    owners.learn(["resp_1"], "gpu-1", "")

    assert (await found(owners, "resp_1")).model == "llama3"


async def test_what_is_being_written_when_it_is_closed_is_written(store, monkeypatch):
    began, may_go_on = asyncio.Event(), asyncio.Event()
    apply = store.apply

    async def slowly(changes):
        began.set()
        await may_go_on.wait()
        return await apply(changes)

    monkeypatch.setattr(store, "apply", slowly)
    owners = ResourceOwners(store)
    await owners.open()
    owners.learn(["resp_1"], "gpu-1", "llama3")
    await began.wait()
    closing = asyncio.ensure_future(owners.close())
    may_go_on.set()
    await closing

    assert [key for key, _ in await store.scan(PREFIX)] == [f"{PREFIX}resp_1"]
