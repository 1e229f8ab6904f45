"""The built-in stores, by their name in ``[store] kind``; plugins add others through ``nexus_stores``."""

from collections.abc import Callable, Mapping
from typing import Final

from nexus.config.schema import StoreConfig
from nexus.store.memory import MemoryStore
from nexus.store.sqlite import SqliteStore
from nexus.store.store import Store


def _memory(_config: StoreConfig) -> Store:
    return MemoryStore()


def _sqlite(config: StoreConfig) -> Store:
    return SqliteStore(config.path)


BUILT_IN_STORES: Final[Mapping[str, Callable[[StoreConfig], Store]]] = {"memory": _memory, "sqlite": _sqlite}
