"""Derives the next snapshot from the last one, sharing all that a change does not touch."""

from collections.abc import Iterable, Mapping
from operator import attrgetter

from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.read_only import ReadOnlyDict

_by_name = attrgetter("name")


def next_snapshot(snapshot: FleetSnapshot, changes: Mapping[str, Backend | None]) -> FleetSnapshot:
    """Return the successor of *snapshot*.

    :param changes: by id, each new or changed backend, and None for one that was removed.
    """
    by_id = dict(snapshot.by_id)
    for backend_id, backend in changes.items():
        if backend is None:
            by_id.pop(backend_id, None)
        else:
            by_id[backend_id] = backend
    before = [snapshot.by_id[backend_id] for backend_id in changes if backend_id in snapshot.by_id]
    after = [backend for backend in changes.values() if backend is not None]
    return FleetSnapshot(
        version=snapshot.version + 1,
        backends=tuple(sorted(by_id.values(), key=_by_name)),
        by_id=ReadOnlyDict(by_id),
        by_model=ReadOnlyDict(_next_by_model(snapshot.by_model, changes, before, after)),
        models=snapshot.models if _list_the_same(before, after) else _listed(by_id.values()),
    )


def _next_by_model(
    by_model: Mapping[str, tuple[Backend, ...]],
    changes: Mapping[str, Backend | None],
    before: Iterable[Backend],
    after: Iterable[Backend],
) -> Mapping[str, tuple[Backend, ...]]:
    touched: dict[str, list[Backend]] = {name: [] for backend in before for name in _names(backend)}
    for backend in after:
        for name in _names(backend):
            touched.setdefault(name, []).append(backend)
    following = dict(by_model)
    for name, changed in touched.items():
        holders = [backend for backend in by_model.get(name, ()) if backend.id not in changes] + changed
        if holders:
            following[name] = tuple(sorted(holders, key=_by_name))
        else:
            following.pop(name, None)
    return following


def _names(backend: Backend) -> Iterable[str]:
    yield from backend.models
    yield from backend.spellings


def _list_the_same(before: Iterable[Backend], after: Iterable[Backend]) -> bool:
    """Whether a change leaves the list of models as it is, which is true of almost every probe."""
    return {b.id: b.models.keys() for b in before} == {b.id: b.models.keys() for b in after}


def _listed(backends: Iterable[Backend]) -> tuple[str, ...]:
    return tuple(sorted({name for backend in backends for name in backend.models}))
