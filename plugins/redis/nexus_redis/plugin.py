"""The hooks of the redis plugin."""

from collections.abc import Callable

from nexus.api import PluginConfig, Store, StoreConfig, hookimpl
from nexus_redis.config import RedisConfig


@hookimpl
def nexus_config() -> type[PluginConfig]:
    return RedisConfig


@hookimpl
def nexus_stores(config: RedisConfig) -> list[tuple[str, Callable[[StoreConfig], Store]]]:
    def make(_store: StoreConfig) -> Store:
        # The library takes a tenth of a second to import.
        from nexus_redis.store import RedisStore

        return RedisStore(config)

    return [("redis", make)]
