"""The checks that all stores share."""

from decimal import Decimal

import pytest

from nexus.config.schema import StoreConfig
from nexus.store.kinds import BUILT_IN_STORES
from nexus.store.memory import MemoryStore
from nexus.store.sqlite import SqliteStore
from nexus.store.store import MAX_KEY_BYTES, MAX_VALUE_BYTES, Add, Delete, Put


@pytest.mark.parametrize("key", ["", "a\0b", "\U0010ffff", "\ud800", "k" * (MAX_KEY_BYTES + 1)])
@pytest.mark.parametrize("change", [lambda key: Put(key, b""), Delete, lambda key: Add(key, 1)])
def test_an_invalid_key_is_refused(change, key):
    with pytest.raises(ValueError, match=r"key|surrogates"):
        change(key)


def test_a_value_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="too long"):
        Put("a", b"x" * (MAX_VALUE_BYTES + 1))


@pytest.mark.parametrize("amount", [Decimal("NaN"), Decimal("Infinity")])
def test_only_finite_numbers_are_added(amount):
    with pytest.raises(ValueError, match="finite"):
        Add("a", amount)


def test_the_kind_in_the_config_chooses_the_store(tmp_path):
    config = StoreConfig(path=str(tmp_path / "x"))

    made = {kind: type(make(config)) for kind, make in BUILT_IN_STORES.items()}

    assert made == {"memory": MemoryStore, "sqlite": SqliteStore}
