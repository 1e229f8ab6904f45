"""Watched files, as ``/admin/backends`` shows them."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from nexus.admin.page import instant
from nexus.fleet.discovery.files.declared import Clash
from nexus.fleet.discovery.files.watched_file import FileState


class FileView(msgspec.Struct, frozen=True, kw_only=True):
    """One file of ``[[discovery.file]]``."""

    path: str
    backends: tuple[str, ...]
    """The names in its last valid version."""
    ignored: tuple[str, ...]
    """Those that are not in the fleet, because another backend has the name or the address."""
    read_at: datetime | None
    """When its last valid version was read; null: never."""
    failure: str | None
    """Why the current version is not used."""
    failed_at: datetime | None
    """Since when the file has been invalid."""


def file_views(files: Mapping[str, FileState], clashes: Iterable[Clash]) -> tuple[FileView, ...]:
    """Return one view for each of *files*."""
    ignored = {(clash.file, clash.name) for clash in clashes}
    return tuple(_view_of(path, state, ignored) for path, state in files.items())


def _view_of(path: str, state: FileState, ignored: set[tuple[str, str]]) -> FileView:
    names = tuple(entry.member.config.name for entry in state.entries)
    return FileView(
        path=path,
        backends=names,
        ignored=tuple(name for name in names if (path, name) in ignored),
        read_at=instant(state.taken_unix_s),
        failure=state.failure,
        failed_at=instant(state.failed_unix_s),
    )
