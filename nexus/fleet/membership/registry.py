"""All backends that Nexus knows: every change publishes one immutable snapshot, which readers take without a lock."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from nexus.domain.backend import Backend, Status
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.model import ModelFacts
from nexus.domain.read_only import ReadOnlyDict
from nexus.errors import NexusError
from nexus.fleet.membership.publication import next_snapshot
from nexus.fleet.models.spellings import spellings_of


class DuplicateBackend(NexusError):
    """A backend of that id is there already."""

    def __init__(self, backend_id: str) -> None:
        super().__init__(f"backend already exists: {backend_id}")


class BackendNotFound(NexusError):
    """There is no backend of that id, or not any more."""

    def __init__(self, backend_id: str) -> None:
        super().__init__(f"backend not found: {backend_id}")


class Registry:
    """The rows of the fleet. Reading is ``registry.snapshot``; every method that writes publishes once."""

    def __init__(self) -> None:
        self.snapshot = FleetSnapshot()
        self._lock = threading.RLock()
        self._callbacks: list[Callable[[FleetSnapshot], None]] = []
        self._changes: dict[str, Backend | None] = {}
        self._depth = 0

    def get(self, backend_id: str) -> Backend | None:
        """Return the row of that id as it is now, None when there is none."""
        with self._lock:
            return self._changes.get(backend_id) if backend_id in self._changes else self.snapshot.by_id.get(backend_id)

    def row(self, backend_id: str) -> Backend:
        """Return the row of that id as it is now. :raises BackendNotFound: when there is none."""
        backend = self.get(backend_id)
        if backend is None:
            raise BackendNotFound(backend_id)
        return backend

    def has_url(self, url: str) -> bool:
        """Whether a backend has that URL; a trailing slash makes no difference."""
        return any(backend.url.rstrip("/") == url.rstrip("/") for backend in self.snapshot.backends)

    def add(self, backend: Backend) -> None:
        """Add a row. :raises DuplicateBackend: when its id is taken."""
        with self.batch():
            if self.get(backend.id) is not None:
                raise DuplicateBackend(backend.id)
            self._changes[backend.id] = _spelled(backend)

    def remove(self, backend_id: str) -> Backend:
        """Take a row out and return it; its requests under way keep its load.

        :raises BackendNotFound: when there is none.
        """
        with self.batch():
            backend = self.row(backend_id)
            self._changes[backend_id] = None
        return backend

    def update(self, backend_id: str, **fields: Any) -> Backend:
        """Replace *fields* of a row and return it; nothing is published when nothing differs.

        :raises BackendNotFound: when there is none.
        """
        with self.batch():
            before = self.row(backend_id)
            after = msgspec.structs.replace(before, **fields)
            if "models" in fields or "kind" in fields:
                after = _spelled(after)
            if after != before:
                self._changes[backend_id] = after
        return after

    def update_status(self, backend_id: str, status: Status, *, error: str | None = None, at: float) -> Backend:
        """Set the status, the error (None clears it) and the time of the check.

        :raises BackendNotFound: when there is none.
        """
        with self.batch():
            since = {} if self.row(backend_id).status is status else {"status_since": at}
            return self.update(backend_id, status=status, last_error=error, last_check_at=at, **since)

    def update_models(self, backend_id: str, models: Mapping[str, ModelFacts]) -> Backend:
        """Replace the models of a row, by its own names. :raises BackendNotFound: when there is none."""
        return self.update(backend_id, models=dict(models))

    def on_change(self, callback: Callable[[FleetSnapshot], None]) -> None:
        """Call *callback* with each new snapshot, after it has been published. It must be quick."""
        self._callbacks.append(callback)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Publish all changes that are made inside at once, when the outermost block ends, and none if it raises."""
        with self._lock:
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
        # One assignment: whoever reads has the old fleet or the new one, never a half.
        changes, self._changes = self._changes, {}
        self.snapshot = next_snapshot(self.snapshot, changes)
        for callback in self._callbacks:
            callback(self.snapshot)


def _spelled(backend: Backend) -> Backend:
    spellings = ReadOnlyDict(spellings_of(backend.kind, backend.models.values()))
    return msgspec.structs.replace(backend, models=ReadOnlyDict(backend.models), spellings=spellings)
