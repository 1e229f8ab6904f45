"""Wraps the store of the running proxy: failures are counted, logged, and remembered until a call succeeds."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import structlog

from nexus.errors import LimitReached, StoreError
from nexus.store.store import MAX_BATCH, Change, Store, Total

log = structlog.get_logger("nexus.store")

_T = TypeVar("_T")


class WatchedStore(Store):
    """Another store, with its last failure and the number of failures."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.survives_restart = store.survives_restart  # type: ignore[misc]
        self.is_shared = store.is_shared  # type: ignore[misc]
        self.failure: str | None = None
        """The reason of the last call's failure; None when it succeeded."""
        self.failures_total = 0

    def __getattr__(self, name: str) -> Any:
        """Return further attributes of the store, for the plugin that provides it."""
        return getattr(self._store, name)

    async def open(self) -> None:
        await self._store.open()

    async def check(self) -> None:
        await self._store.check()

    async def close(self) -> None:
        await self._store.close()

    async def get(self, key: str) -> bytes | None:
        return await self._watched(lambda: self._store.get(key))

    async def scan(self, prefix: str, *, after: str = "", limit: int = MAX_BATCH) -> tuple[tuple[str, bytes], ...]:
        return await self._watched(lambda: self._store.scan(prefix, after=after, limit=limit))

    async def apply(self, changes: Sequence[Change]) -> tuple[Total, ...]:
        return await self._watched(lambda: self._store.apply(changes))

    async def _watched(self, call: Callable[[], Awaitable[_T]]) -> _T:
        try:
            result = await call()
        except LimitReached:
            # The store works: it says that there is no more.
            self._succeeded()
            raise
        except StoreError as exc:
            self.failures_total += 1
            if self.failure is None:
                log.error("store_failed", reason=str(exc))  # noqa: TRY400 - the reason is enough for operators
            self.failure = str(exc)
            raise
        self._succeeded()
        return result

    def _succeeded(self) -> None:
        if self.failure is not None:
            self.failure = None
            log.info("store_recovered")
