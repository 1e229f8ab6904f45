"""The backends of the fleet: each change publishes one immutable snapshot."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.read_only import ReadOnlyDict
from nexus.errors import NexusError
from nexus.fleet.membership.publication import next_snapshot
from nexus.fleet.models.spellings import spellings_of


class DuplicateBackend(NexusError):
    """The registry already has a backend with this id."""

    def __init__(self, backend_id: str) -> None:
        super().__init__(f"backend already exists: {backend_id}")


class BackendNotFound(NexusError):
    """The registry has no backend with this id."""

    def __init__(self, backend_id: str) -> None:
        super().__init__(f"backend not found: {backend_id}")


class Registry:
    """The rows of the fleet. Read ``registry.snapshot``; each method that writes publishes once.

    Written on one event loop only. Any thread may read the snapshot.
    """

    def __init__(self) -> None:
        self.snapshot = FleetSnapshot()
        self._callbacks: list[Callable[[FleetSnapshot], None]] = []
        self._changes: dict[str, Backend | None] = {}
        """By id, what the batch has changed so far; None for a backend that it removed."""
        self._depth = 0

    def get(self, backend_id: str) -> Backend | None:
        """Return the current row with that id, or None; within a batch, its unpublished changes included."""
        return self._changes.get(backend_id) if backend_id in self._changes else self.snapshot.by_id.get(backend_id)

    def row(self, backend_id: str) -> Backend:
        """Return the current row with that id. :raises BackendNotFound: there is none."""
        backend = self.get(backend_id)
        if backend is None:
            raise BackendNotFound(backend_id)
        return backend

    def add(self, backend: Backend) -> None:
        """Add a row. :raises DuplicateBackend: its id is taken."""
        with self.batch():
            if self.get(backend.id) is not None:
                raise DuplicateBackend(backend.id)
            self._changes[backend.id] = _spelled(backend)

    def remove(self, backend_id: str) -> Backend:
        """Remove a row and return it; requests that it still serves keep its load. :raises BackendNotFound: no row."""
        with self.batch():
            backend = self.row(backend_id)
            self._changes[backend_id] = None
        return backend

    def update(self, backend_id: str, **fields: Any) -> Backend:
        """Replace *fields* of a row and return it; publish only if a value differs. :raises BackendNotFound: no row."""
        with self.batch():
            before = self.row(backend_id)
            after = msgspec.structs.replace(before, **fields)
            if "models" in fields or "kind" in fields:
                after = _spelled(after)
            if after != before:
                self._changes[backend_id] = after
        return after

    def on_change(self, callback: Callable[[FleetSnapshot], None]) -> None:
        """Call *callback* with each snapshot after it is published. It must be quick."""
        self._callbacks.append(callback)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Publish all changes made inside at once when the outermost block ends, or none if it raises."""
        self._depth += 1
        try:
            yield
        except BaseException:
            if self._depth == 1:
                self._changes.clear()
            raise
        finally:
            self._depth -= 1
        if self._depth == 0 and self._changes:
            self._publish()

    def _publish(self) -> None:
        changes, self._changes = self._changes, {}
        # One assignment, so that a reader sees the old fleet or the new one and never a mixture.
        self.snapshot = next_snapshot(self.snapshot, changes)
        for callback in self._callbacks:
            callback(self.snapshot)


def _spelled(backend: Backend) -> Backend:
    spellings = ReadOnlyDict(spellings_of(backend.kind, backend.models.values()))
    return msgspec.structs.replace(backend, models=ReadOnlyDict(backend.models), spellings=spellings)
