"""Remembers which backend keeps each resource: responses, conversations, files and batches, by their ids."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import msgspec
import structlog

from nexus import tasks
from nexus.domain.request import Kept, Reference
from nexus.errors import RequestError, StoreError
from nexus.store.store import MAX_BATCH, Change, Delete, Put, Store

log = structlog.get_logger("nexus.proxy")

PREFIX: Final = "core/kept/"
MAX_KEPT: Final = 100_000
"""Ids that are remembered; beyond that, the oldest are dropped."""
TTL_S: Final = 30 * 24 * 3600
"""As long as OpenAI keeps a response."""
MAX_UNWRITTEN: Final = 10_000
"""Changes that may wait for the store; further ones are kept in memory only."""


class Home(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The backend that keeps a resource."""

    backend: str
    model: str
    """As the client named it; empty when no model made the resource."""
    learnt_unix_s: int


class ResourceOwners:
    """Learns the ids in answers and finds their backends; they are written to the store, for restarts and replicas."""

    def __init__(self, store: Store | None = None) -> None:
        # A store that neither survives a restart nor is shared knows no more than this process.
        knows_more = store is not None and (store.survives_restart or store.is_shared)
        self._store = store if knows_more else None
        self._homes: OrderedDict[str, Home] = OrderedDict()
        self._unwritten: list[Change] = []
        self._has_changes = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Read the ids in the store, and start writing to it."""
        if self._store is None:
            return
        try:
            await self._read(self._store)
        except StoreError as exc:
            log.warning("kept_ids_unreadable", reason=str(exc))
        self._writing = tasks.start(self._write(self._store), name="keepers")

    async def close(self) -> None:
        """Write the changes that wait."""
        writing, self._writing = self._writing, None
        if writing is not None and self._store is not None:
            await tasks.stop(writing)
            await self._write_once(self._store)

    async def find(self, references: Iterable[Reference]) -> Kept | None:
        """Return where the first of *references* with a known owner is kept; None when none has one.

        :raises RequestError: two of them are kept by different backends.
        """
        found: Kept | None = None
        for reference in references:
            home = await self._home(reference.id)
            if home is None:
                continue
            if found is not None and found.backend != home.backend:
                message = (
                    f"'{found.reference.id}' is kept by backend '{found.backend}' and '{reference.id}' by"
                    f" '{home.backend}'; no backend has both"
                )
                raise RequestError("object_not_found", message, param=reference.param)
            found = found or Kept(reference, home.backend, home.model)
        return found

    def learn(self, ids: Iterable[str], backend: str, model: str) -> None:
        """Remember that *backend* keeps *ids*, made by *model*, which is empty when no model made them."""
        now = _now()
        for id_ in ids:
            known = self._homes.get(id_)
            if known is not None and known.backend == backend:
                continue
            home = self._homes[id_] = Home(backend, model, now)
            self._change(Put(PREFIX + id_, msgspec.json.encode(home)))
        self._forget_oldest()

    def forget(self, id_: str) -> None:
        """Forget an id that was deleted."""
        if self._homes.pop(id_, None) is not None:
            self._change(Delete(PREFIX + id_))

    async def _home(self, id_: str) -> Home | None:
        home = self._homes.get(id_)
        if home is None and self._store is not None:
            # Another replica may have written it.
            try:
                home = _decoded(await self._store.get(PREFIX + id_))
            except (StoreError, ValueError):
                return None
        return home if home is not None and home.learnt_unix_s > _now() - TTL_S else None

    def _forget_oldest(self) -> None:
        too_old = _now() - TTL_S
        while self._homes:
            oldest = next(iter(self._homes))
            if len(self._homes) <= MAX_KEPT and self._homes[oldest].learnt_unix_s > too_old:
                return
            self.forget(oldest)

    def _change(self, change: Change) -> None:
        if self._store is not None and len(self._unwritten) < MAX_UNWRITTEN:
            self._unwritten.append(change)
            self._has_changes.set()

    async def _read(self, store: Store) -> None:
        read: list[tuple[str, Home]] = []
        after = ""
        while page := await store.scan(PREFIX, after=after):
            after = page[-1][0]
            read += [(key.removeprefix(PREFIX), home) for key, value in page if (home := _decoded(value))]
        self._homes.update(sorted(read, key=lambda item: item[1].learnt_unix_s))
        self._forget_oldest()

    async def _write(self, store: Store) -> None:
        while True:
            await self._has_changes.wait()
            self._has_changes.clear()
            await self._write_once(store)

    async def _write_once(self, store: Store) -> None:
        while self._unwritten:
            # They stay in the list meanwhile: if this is cancelled, close() writes them again.
            batch = self._unwritten[:MAX_BATCH]
            try:
                await store.apply(batch)
            except StoreError as exc:
                log.warning("kept_ids_unwritten", count=len(batch), reason=str(exc))
                del self._unwritten[: len(batch)]
                return
            del self._unwritten[: len(batch)]


def _decoded(value: bytes | None) -> Home | None:
    try:
        return None if value is None else msgspec.json.decode(value, type=Home)
    except msgspec.DecodeError:
        return None


def _now() -> int:
    return int(time.time())  # noqa: TID251 - it is compared with what another process has written
