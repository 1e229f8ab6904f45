"""Wraps the store of the running proxy: failures are counted, logged, and remembered until a call succeeds."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import structlog

from nexus.errors import LimitReached, StoreError
from nexus.store.shared import Renewal, SharedStore, SlotClaim
from nexus.store.store import MAX_BATCH, Change, Store, Total

log = structlog.get_logger("nexus.store")

_T = TypeVar("_T")


class WatchedStore(Store):
    """Another store, with its last failure and the number of failures."""

    def __init__(self, store: Store, *, is_logged: bool = True) -> None:
        """:param is_logged: whether failures are logged here, and not by another process that has the store."""
        self._store = store
        self._is_logged = is_logged
        self.survives_restart = store.survives_restart  # type: ignore[misc]
        self.is_shared = store.is_shared  # type: ignore[misc]
        self.failure: str | None = None
        """The reason of the last call's failure; None when it succeeded."""
        self.failures_total = 0
        self.shared = store if isinstance(store, SharedStore) else None
        """The same store, if replicas share it."""
        self._hints: dict[str, Callable[[bytes], None]] = {}
        if self.shared is not None:
            self.shared.listen(self._take_hint)

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

    @property
    def has_replicas(self) -> bool:
        """Whether replicas share it, directly or by the process that has it."""
        return self.shared is not None or bool(getattr(self._store, "has_replicas", False))

    async def renew(self, replica: str, claims: Mapping[str, SlotClaim], *, ttl_s: float) -> Renewal:
        """Renew the claims of a replica; only where replicas share the store."""
        shared = self.shared
        if shared is None:
            raise StoreError("no replicas share this store")
        return await self._watched(lambda: shared.renew(replica, claims, ttl_s=ttl_s))

    async def publish(self, topic: str, message: bytes = b"") -> None:
        """Send a hint to all other replicas, if there are any; one that is lost only makes them look later."""
        if self.shared is not None:
            with suppress(StoreError):
                await self.shared.publish(topic, message)

    def on_hint(self, topic: str, receive: Callable[[bytes], None]) -> None:
        """Call *receive* with each hint of *topic* from another replica."""
        self._hints[topic] = receive

    def _take_hint(self, topic: str, message: bytes) -> None:
        if (receive := self._hints.get(topic)) is not None:
            receive(message)

    async def _watched(self, call: Callable[[], Awaitable[_T]]) -> _T:
        try:
            result = await call()
        except LimitReached:
            # The store works: it says that there is no more.
            self._succeeded()
            raise
        except StoreError as exc:
            self.failures_total += 1
            if self.failure is None and self._is_logged:
                log.error("store_failed", reason=str(exc))  # noqa: TRY400 - the reason is enough for operators
            self.failure = str(exc)
            raise
        self._succeeded()
        return result

    def _succeeded(self) -> None:
        if self.failure is not None:
            self.failure = None
            if self._is_logged:
                log.info("store_recovered")
