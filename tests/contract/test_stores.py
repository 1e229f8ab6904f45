"""The built-in stores and their wrapper fulfil the contract of stores."""

import socket
from pathlib import Path

from nexus.store.channel import ChannelStore, serve_store
from nexus.store.memory import MemoryStore
from nexus.store.shared import SharedStore
from nexus.store.sqlite import SqliteStore
from nexus.store.store import Store
from nexus.store.watched import WatchedStore
from nexus.testing.shared_store import SharedMemory
from nexus.testing.shared_store_contract import SharedStoreContract
from nexus.testing.store_contract import StoreContract
from nexus.workers.channel import Channel


class TestMemoryStore(StoreContract):
    def make(self, folder: Path) -> Store:
        return MemoryStore()


class TestSqliteStore(StoreContract):
    def make(self, folder: Path) -> Store:
        return SqliteStore(folder / "nexus.sqlite3")


class TestWatchedStore(StoreContract):
    def make(self, folder: Path) -> Store:
        return WatchedStore(SqliteStore(folder / "nexus.sqlite3"))


class TestChannelStore(StoreContract):
    """Each store is that of a worker, whose parent has it in a file."""

    def make(self, folder: Path) -> Store:
        return _OfAWorker(folder)


class _OfAWorker(ChannelStore):
    def __init__(self, folder: Path) -> None:
        self._here, self._there = Channel("parent"), Channel("worker")
        super().__init__(self._here)
        self._parents = SqliteStore(folder / "nexus.sqlite3")

    async def open(self) -> None:
        serve_store(self._parents, self._there)
        await self._parents.open()
        here, there = socket.socketpair()
        await self._there.open(there)
        await self._here.open(here)
        await super().open()

    async def check(self) -> None:
        await self._parents.check()

    async def close(self) -> None:
        await super().close()
        self._here.close()
        await self._parents.close()


class TestStoreOfReplicas(SharedStoreContract):
    """The store that other tests use in place of a server."""

    def setup_method(self) -> None:
        self.shared = SharedMemory()

    def make(self, folder: Path) -> SharedStore:
        return self.shared.store()
