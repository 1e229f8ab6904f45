"""Both built-in stores keep the promises of every store."""

from pathlib import Path

from nexus.store.memory import MemoryStore
from nexus.store.sqlite import SqliteStore
from nexus.store.store import Store
from nexus.testing.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    def make(self, folder: Path) -> Store:
        return MemoryStore()


class TestSqliteStore(StoreContract):
    def make(self, folder: Path) -> Store:
        return SqliteStore(folder / "nexus.sqlite3")
