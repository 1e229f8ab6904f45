"""The built-in stores and their wrapper fulfil the contract of stores."""

from pathlib import Path

from nexus.store.memory import MemoryStore
from nexus.store.shared import SharedStore
from nexus.store.sqlite import SqliteStore
from nexus.store.store import Store
from nexus.store.watched import WatchedStore
from nexus.testing.shared_store import SharedMemory
from nexus.testing.shared_store_contract import SharedStoreContract
from nexus.testing.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    def make(self, folder: Path) -> Store:
        return MemoryStore()


class TestSqliteStore(StoreContract):
    def make(self, folder: Path) -> Store:
        return SqliteStore(folder / "nexus.sqlite3")


class TestWatchedStore(StoreContract):
    def make(self, folder: Path) -> Store:
        return WatchedStore(SqliteStore(folder / "nexus.sqlite3"))


class TestStoreOfReplicas(SharedStoreContract):
    """The store that other tests use in place of a server."""

    def setup_method(self) -> None:
        self.shared = SharedMemory()

    def make(self, folder: Path) -> SharedStore:
        return self.shared.store()
