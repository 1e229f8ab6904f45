"""The store fulfils the contract of stores, on each server that is installed."""

import pytest

from nexus.testing.shared_store_contract import SharedStoreContract
from nexus.testing.store_contract import StoreContract


class TestRedisStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _on(self, server, new_store):
        self._server, self._new_store = server, new_store

    def make(self, folder):
        # The same folder gives the same entries.
        return self._new_store(self._server, prefix=folder.name[:60], timeout_seconds=5)


class TestRedisReplicas(SharedStoreContract):
    @pytest.fixture(autouse=True)
    def _on(self, server, new_store):
        self._server, self._new_store = server, new_store

    def make(self, folder):
        return self._new_store(self._server, prefix=folder.name[:60], timeout_seconds=5)
