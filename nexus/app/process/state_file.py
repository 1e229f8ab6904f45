"""The file by which commands find the running proxies of their user."""

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Final

import msgspec
import structlog

from nexus import __version__
from nexus.config.loading import LoadedConfig
from nexus.config.partial import address_of

log = structlog.get_logger("nexus.app")

FOLDER: Final = "nexus-proxy"
MAX_BYTES: Final = 64 * 1024


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the file."""

    url: str
    """With the actual port."""
    pid: int
    config: str | None
    """The absolute path of the configuration file; None without one."""
    started_at: str
    """RFC 3339, in UTC."""
    version: str


class StateFile:
    """The file of this process, which exists while the process runs.

    It stays locked, and the kernel releases the lock when the process ends: if a file is not locked, its process has
    ended, even if another process has the same id by now.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._name = f"proxy-{os.getpid()}-{token_hex(4)}.json"
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._path: Path | None = None
        self._lock: int | None = None
        self._has_warned = False

    def write(self, loaded: LoadedConfig, port: int) -> None:
        """Write or replace the file; if that fails, warn once.

        :param port: the actual port.
        """
        running = Running(
            url=address_of(loaded.config.server.host, port),
            pid=os.getpid(),
            config=None if loaded.source is None else str(loaded.source.absolute()),
            started_at=self._started_at,
            version=__version__,
        )
        try:
            folder = _ensure_private(runtime_folder(self._environ))
            before, self._lock = self._lock, _write_locked(folder / f".{self._name}", msgspec.json.encode(running))
            self._path = (folder / f".{self._name}").rename(folder / self._name)
            if before is not None:
                os.close(before)
            # This also removes files that a crash has left behind.
            running_proxies(self._environ)
        except OSError as exc:
            if not self._has_warned:
                log.warning("state_file_not_written", path=exc.filename, reason=exc.strerror or str(exc))
            self._has_warned = True

    def remove(self) -> None:
        """Remove the file and release its lock."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()
        if self._lock is not None:
            os.close(self._lock)
        self._path = self._lock = None


def runtime_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder for state files: of the systemd service, of the login session, or a temporary one.

    :raises FileNotFoundError: no folder is writable, as in some containers.
    """
    if of_service := environ.get("RUNTIME_DIRECTORY"):
        # A unit may have several: take the first. With DynamicUser= it may be a link (systemd.exec(5)).
        return Path(of_service.partition(":")[0]).resolve()
    if of_login := environ.get("XDG_RUNTIME_DIR"):
        return Path(of_login) / FOLDER
    return Path(tempfile.gettempdir()) / f"{FOLDER}-{os.geteuid()}"


def running_proxies(environ: Mapping[str, str]) -> tuple[Running, ...]:
    """Return the running proxies of this user, oldest first; remove the files of ended ones."""
    return tuple(sorted(_read(environ), key=lambda running: (running.started_at, running.pid)))


def _ensure_private(folder: Path) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(folder):
        raise PermissionError(errno.EPERM, "belongs to another user, or others may write to it", str(folder))
    return folder


def _is_private(folder: Path) -> bool:
    """Whether only this user can create files in *folder*; a link is not followed."""
    status = folder.lstat()
    is_shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not is_shared


def _write_locked(path: Path, content: bytes) -> int:
    """Write *content* to a locked file, and return its descriptor, which must stay open."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(file, content)
    except OSError:
        os.close(file)
        raise
    return file


def _read(environ: Mapping[str, str]) -> Iterator[Running]:
    try:
        folder = runtime_folder(environ)
        paths = sorted(folder.glob("proxy-*.json")) if _is_private(folder) else []
    except OSError:
        return
    for path in paths:
        with suppress(OSError, msgspec.DecodeError):
            if content := _content(path):
                yield msgspec.json.decode(content, type=Running)


def _content(path: Path) -> bytes | None:
    """Return the content of *path*; if its process has ended, remove the file and return None."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(file, MAX_BYTES)
    else:
        path.unlink()
        return None
    finally:
        os.close(file)
