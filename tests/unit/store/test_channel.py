"""The store of a worker when its parent is slow, has ended or has a failing store, and with batches of any size."""

import asyncio
import socket
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from nexus.errors import LimitReached, StoreError, StoreOutcomeUnknown
from nexus.store import channel as channel_store
from nexus.store.channel import ChannelStore, serve_store
from nexus.store.memory import MemoryStore
from nexus.store.store import Put
from nexus.store.watched import WatchedStore
from nexus.testing.shared_store import SharedMemory
from nexus.workers.channel import Channel


@asynccontextmanager
async def shared(store, count=1):
    """Give so many workers the store of one parent."""
    await store.open()
    workers, channels = [], []
    for number in range(count):
        here, there = Channel("parent"), Channel(f"worker {number}")
        serve_store(store, there)
        worker = ChannelStore(here)
        ours, theirs = socket.socketpair()
        await there.open(theirs)
        await here.open(ours)
        await worker.open()
        workers.append(worker)
        channels.append(there)
    try:
        yield workers, channels
    finally:
        for channel in channels:
            channel.close()


async def test_a_store_in_memory_holds_for_all_workers():
    async with shared(MemoryStore(), count=2) as ((one, two), _):
        await asyncio.gather(*(each.add("spent", 1) for each in (one, two) for _ in range(20)))

        assert await one.get("spent") == b"40"
        assert (one.survives_restart, one.is_shared) == (False, True)


async def test_a_limit_holds_for_all_workers():
    async with shared(MemoryStore(), count=3) as (workers, _):
        results = await asyncio.gather(
            *(worker.add_if_at_most("n", 1, 50) for worker in workers for _ in range(30)), return_exceptions=True
        )

    assert sum(not isinstance(result, Exception) for result in results) == 50
    refused = next(result for result in results if isinstance(result, LimitReached))
    assert (refused.key, refused.total) == ("n", Decimal(50))


async def test_batches_and_pages_larger_than_a_message_arrive_whole(monkeypatch):
    monkeypatch.setattr(channel_store, "MAX_PART_BYTES", 100)
    entries = {f"k{number:03}": b"x" * 30 for number in range(50)}
    async with shared(MemoryStore()) as ((worker,), _):
        await worker.apply([Put(key, value) for key, value in entries.items()])

        assert dict(await worker.scan("k")) == entries


async def test_a_change_whose_answer_is_lost_may_have_happened():
    class Slow(MemoryStore):
        async def apply(self, changes):
            await asyncio.sleep(60)

        async def get(self, key):
            await asyncio.sleep(60)

    async with shared(Slow()) as ((worker,), (channel,)):
        changing, reading = asyncio.ensure_future(worker.put("a", b"1")), asyncio.ensure_future(worker.get("a"))
        await asyncio.sleep(0)
        channel.close()

        with pytest.raises(StoreOutcomeUnknown):
            await changing
        with pytest.raises(StoreError) as failed:
            await reading
        assert not isinstance(failed.value, StoreOutcomeUnknown)
        with pytest.raises(StoreError) as refused:
            await worker.put("a", b"1")
        assert not isinstance(refused.value, StoreOutcomeUnknown)


async def test_failures_of_the_store_arrive_as_what_they_were():
    class Broken(MemoryStore):
        async def get(self, key):
            raise StoreError("the disk is full")

    async with shared(Broken()) as ((worker,), _):
        await worker.put("text", b"no number")

        with pytest.raises(StoreError, match="the disk is full"):
            await worker.get("text")
        with pytest.raises(ValueError, match="not a number"):
            await worker.add("text", 1)


async def test_more_calls_than_may_wait_are_refused_at_once(monkeypatch):
    monkeypatch.setattr(channel_store, "MAX_WAITING", 2)
    async with shared(MemoryStore()) as ((worker,), _):
        results = await asyncio.gather(*(worker.get("a") for _ in range(4)), return_exceptions=True)

    assert [isinstance(result, StoreError) for result in results] == [False, False, True, True]


async def test_a_worker_knows_whether_replicas_share_the_store():
    async with shared(WatchedStore(SharedMemory().store())) as ((worker,), _):
        assert WatchedStore(worker).has_replicas
    async with shared(WatchedStore(MemoryStore())) as ((worker,), _):
        assert not WatchedStore(worker).has_replicas
