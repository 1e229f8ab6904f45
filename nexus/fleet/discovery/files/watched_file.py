"""Reads a watched file when it has changed, and keeps the last valid content while it is invalid."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from nexus.config.discovery_schema import FileSourceConfig
from nexus.config.faults import Fault, Origin, described
from nexus.config.fleet_file import MAX_BYTES, Load, backends_in
from nexus.config.one_backend import LoadedBackend
from nexus.domain.kinds import BackendKind
from nexus.errors import ConfigError
from nexus.fleet.clock import unix_now
from nexus.fleet.membership.locations import names_metadata
from nexus.fleet.membership.member import Member
from nexus.fleet.plan import plan_member

SOURCE: Final = "file"
MAX_BACKENDS: Final = 1_000
"""In all watched files together."""
LOOKS_PER_RETRY: Final = 20
"""An invalid file is read again after this many looks even if it is unchanged: a secret that it names may exist now."""

Kinds = Mapping[str, BackendKind]
Stamp = tuple[int, ...]
"""Differs between two contents of a file, and between two files at the same path."""


class Entry(msgspec.Struct, frozen=True):
    """One backend of a file."""

    loaded: LoadedBackend
    certificates: tuple[Stamp | None, ...]
    """The stamps of its TLS files, whose content is not in :attr:`loaded`."""
    member: Member


class FileState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one file."""

    entries: tuple[Entry, ...] = ()
    """The backends of the last valid content."""
    taken_unix_s: float | None = None
    """When :attr:`entries` were read; None: the file was never valid."""
    failure: str | None = None
    """Why the current content is not used."""
    failed_unix_s: float | None = None
    """Since when it has not been used."""
    stamp: Stamp | None = None
    """The stamp of the content that was last read, valid or not."""
    seen: Stamp | str | None = None
    """The result of the last look: a stamp, or why there is none; None: there was no look yet."""
    looks_until_retry: int = 0


class FileReader:
    """Reads one file. It blocks, so it runs in a thread, and returns a new state instead of changing one."""

    def __init__(self, source: FileSourceConfig, load: Load, kinds: Kinds) -> None:
        self.source = source
        self._load = load
        self._kinds = kinds

    def look(self, before: FileState, *, room: int = MAX_BACKENDS) -> FileState:
        """Return the state after a look at the file.

        A change counts once two consecutive looks see the same stamp: while a program overwrites the file in place, the
        beginning can be valid TOML with some of the backends missing.

        :param room: the maximum number of backends.
        """
        seen = _stamp(self.source.path)
        if before.seen is not None and seen != before.seen:
            return msgspec.structs.replace(before, seen=seen)
        if isinstance(seen, str):
            return _failed(before, seen, f"{self.source.path}: {seen}", stamp=None)
        if seen == before.stamp and (before.failure is None or before.looks_until_retry > 1):
            return msgspec.structs.replace(before, seen=seen, looks_until_retry=max(0, before.looks_until_retry - 1))
        return self._read(before, seen, room)

    def _read(self, before: FileState, stamp: Stamp, room: int) -> FileState:
        try:
            content = _content(self.source.path)
            now = _stamp(self.source.path)
            if now != stamp:
                return msgspec.structs.replace(before, seen=now)
            entries = self._entries(content, before.entries, room)
        except ConfigError as exc:
            return _failed(before, stamp, str(exc), stamp=stamp)
        except OSError as exc:
            reason = f"{self.source.path}: cannot be read: {exc.strerror or type(exc).__name__}"
            return _failed(before, stamp, reason, stamp=stamp)
        return FileState(entries=entries, taken_unix_s=unix_now(), stamp=stamp, seen=stamp)

    def _entries(self, content: bytes, before: tuple[Entry, ...], room: int) -> tuple[Entry, ...]:
        known = {entry.member.config.name: entry for entry in before}
        found = backends_in(content, self.source, self._load, most=room)
        return tuple(self._entry(loaded, index, known.get(loaded.config.name)) for index, loaded in enumerate(found))

    def _entry(self, loaded: LoadedBackend, index: int, known: Entry | None) -> Entry:
        """Return the entry of *loaded*, or *known* if it is equal, so that its backend is not updated needlessly."""
        certificates = _certificates(loaded)
        if known is not None and (known.loaded, known.certificates) == (loaded, certificates):
            return known
        try:
            _reject_metadata(loaded)
            member = plan_member(loaded.config, self._kinds, loaded.key, loaded.credentials, source=SOURCE)
        except Fault as fault:
            named = Fault(("backends", index, *fault.path), f"'{loaded.config.name}': {fault.problem}", fault.hint)
            raise ConfigError(described(named, Origin(self.source.path))) from fault
        return Entry(loaded, certificates, member)


def _reject_metadata(loaded: LoadedBackend) -> None:
    for key, url in (("url", loaded.config.url), ("https_proxy", loaded.credentials.https_proxy)):
        if url is not None and names_metadata(url):
            problem = "is a link-local address, where clouds keep a machine's secrets"
            raise Fault((key,), problem, "only the configuration may name one")


def _failed(before: FileState, seen: Stamp | str, reason: str, *, stamp: Stamp | None) -> FileState:
    """Return *before* with the reason of a failure; its backends stay."""
    since = before.failed_unix_s if before.failure is not None else unix_now()
    return msgspec.structs.replace(
        before,
        failure=reason,
        failed_unix_s=since,
        stamp=stamp,
        seen=seen,
        looks_until_retry=LOOKS_PER_RETRY,
    )


def _stamp(path: str) -> Stamp | str:
    """Return the stamp of the file at *path*, or why there is none."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as exc:
        return f"cannot be read: {getattr(exc, 'strerror', None) or 'not the name of a file'}"
    if not stat.S_ISREG(found.st_mode):
        # Reading a pipe could block for ever.
        return "is not a file"
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _content(path: str) -> bytes:
    # The path may have become a pipe since the look, and opening one would wait for its other end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no path
        return file.read(MAX_BYTES + 1) or b""


def _certificates(loaded: LoadedBackend) -> tuple[Stamp | None, ...]:
    config = loaded.config
    names = (config.tls_ca_file, config.tls_cert_file, config.tls_key_file)
    found = (None if name is None else _stamp(name) for name in names)
    return tuple(None if isinstance(each, str) else each for each in found)
