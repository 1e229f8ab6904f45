"""A store in one SQLite file, with its own thread so that the disk never blocks the event loop."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar, assert_never

from nexus.errors import StoreError
from nexus.store.opened_file import OpenedFile
from nexus.store.permission import ANOTHER_FILE, examine
from nexus.store.store import (
    MAX_BATCH,
    Add,
    AddIfAtMost,
    Change,
    Delete,
    Put,
    Store,
    Total,
    check_batch,
    number_text,
    page_size,
    total_of,
)

MAX_WAITING: Final = 1000
"""Calls that may wait for the thread; further ones are refused, so that a hanging disk does not fill the memory."""

SCHEMA_VERSION: Final = 1
PRIVATE: Final = 0o600
_TABLE: Final = "entries"

_T = TypeVar("_T")


class SqliteStore(Store):
    """Keeps its entries in a file that only its owner can read, and that several processes may share."""

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout_s: float = 5.0) -> None:
        self._path = Path(path)
        self._busy_timeout_s = busy_timeout_s
        self._connection: sqlite3.Connection | None = None
        self._file: OpenedFile | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._waiting = 0

    async def open(self) -> None:
        if self._thread is not None:
            raise StoreError(f"store {self._path} is open already")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nexus-store")
        try:
            self._connection, self._file = await self._run(partial(_open, self._path, self._busy_timeout_s))
        except BaseException:
            self._stop_thread()
            raise

    async def check(self) -> None:
        try:
            await asyncio.to_thread(_try, self._path, self._busy_timeout_s)
        except (sqlite3.Error, OSError) as exc:
            raise _store_error(self._path, exc) from exc

    async def close(self) -> None:
        file, self._connection, self._file = self._file, None, None
        if file is None:
            return
        # The thread works in order, so all earlier calls are done by then.
        try:
            await self._do(file.close)
        finally:
            self._stop_thread()

    async def get(self, key: str) -> bytes | None:
        return await self._run(self._in_place(partial(_get, self._opened(), key)))

    async def scan(self, prefix: str, *, after: str = "", limit: int = MAX_BATCH) -> tuple[tuple[str, bytes], ...]:
        return await self._run(self._in_place(partial(_scan, self._opened(), prefix, after, page_size(limit))))

    async def apply(self, changes: Sequence[Change]) -> tuple[Total, ...]:
        check_batch(changes)
        connection, file = self._opened(), self._file
        return await self._run(self._in_place(partial(_apply, connection, file, tuple(changes))))

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"store {self._path} is not open")
        return self._connection

    def _in_place(self, work: Callable[[], _T]) -> Callable[[], _T]:
        """Return *work* preceded by a check that the file is the one that was opened, with the same content."""
        file = self._file

        def checked() -> _T:
            if file is not None:
                file.check()
            return work()

        return checked

    async def _run(self, work: Callable[[], _T]) -> _T:
        if self._waiting >= MAX_WAITING:
            raise StoreError(f"store {self._path} is overloaded: {self._waiting} calls are waiting")
        return await self._do(work)

    async def _do(self, work: Callable[[], _T]) -> _T:
        """Run *work* on the thread; its error names the file."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        self._waiting += 1
        # Counted until the work is done or dropped, even if the caller is cancelled before.
        future.add_done_callback(self._done)
        try:
            return await future
        except (sqlite3.Error, OSError) as exc:
            raise _store_error(self._path, exc) from exc

    def _done(self, _future: asyncio.Future[_T]) -> None:
        self._waiting -= 1

    def _stop_thread(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False)
        self._thread = None


def _store_error(path: Path, exc: sqlite3.Error | OSError) -> StoreError:
    # The text of an OSError repeats the path and begins with an error number.
    reason = exc.strerror or exc if isinstance(exc, OSError) else exc
    return StoreError(f"store {path}: {reason}")


def _open(path: Path, busy_timeout_s: float) -> tuple[sqlite3.Connection, OpenedFile]:
    connection = _connect(path, busy_timeout_s)
    try:
        return connection, OpenedFile(path, connection)
    except BaseException:
        connection.close()
        raise


def _try(path: Path, busy_timeout_s: float) -> None:
    """Raise what :func:`_open` would raise, with a temporary file beside *path* in place of a new one."""
    if not path.exists():
        examine(path)
        # Not at *path* itself: a proxy that starts meanwhile would open the file and lose it.
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
            _connect(Path(folder) / path.name, busy_timeout_s).close()
        return
    examine(path)
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=busy_timeout_s)
    try:
        _refuse_foreign(connection)
    finally:
        connection.close()


def _connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    examine(path)
    is_new = _created(path)
    # Autocommit: this module begins and ends each transaction itself.
    connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None)
    try:
        _refuse_foreign(connection)
        if not is_new:
            path.chmod(PRIVATE)
        # WAL: readers and the writer do not wait for each other, and NORMAL is safe if the process is killed.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _created(path: Path) -> bool:
    """Create the file, readable by its owner only, before SQLite does; its journals inherit the mode.

    Return False when it exists, without opening it: closing any descriptor of a file drops all locks of this process on
    it (POSIX).
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, PRIVATE))
    except FileExistsError:
        return False
    return True


def _migrate(connection: sqlite3.Connection) -> None:
    version = _refuse_foreign(connection)
    connection.execute("CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
    if version < SCHEMA_VERSION:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _refuse_foreign(connection: sqlite3.Connection) -> int:
    """Return the version of the schema; raise DatabaseError for a database that this release must not write to."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION and (not tables or _TABLE in tables):
        raise sqlite3.DatabaseError(f"written by a newer release (schema {version}, this one knows {SCHEMA_VERSION})")
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({_TABLE})")]
    if tables and columns != ["key", "value"]:
        raise sqlite3.DatabaseError(f"it is the database of another program; {ANOTHER_FILE}")
    return int(version)


def _get(connection: sqlite3.Connection, key: str) -> bytes | None:
    row = connection.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
    return None if row is None else bytes(row[0])


def _scan(connection: sqlite3.Connection, prefix: str, after: str, limit: int) -> tuple[tuple[str, bytes], ...]:
    # Not LIKE or GLOB, whose wildcards a prefix may contain. SQLite compares text by its UTF-8 bytes, in the order of
    # code points, of which U+10FFFF is the last.
    rows = connection.execute(
        "SELECT key, value FROM entries WHERE key >= ? AND key < ? AND key > ? ORDER BY key LIMIT ?",
        (prefix, prefix + "\U0010ffff", after, limit),
    )
    return tuple((key, bytes(value)) for key, value in rows)


def _apply(connection: sqlite3.Connection, file: OpenedFile | None, changes: tuple[Change, ...]) -> tuple[Total, ...]:
    # IMMEDIATE takes the write lock before anything is read, so no other process can write in between.
    connection.execute("BEGIN IMMEDIATE")
    try:
        totals = tuple(_write(connection, change) for change in changes)
        if file is not None:
            file.begin_write()
        connection.execute("COMMIT")
    except BaseException:
        # A full disk has ended the transaction already; a failed COMMIT has not.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if file is not None:
        file.end_write()
    return totals


def _write(connection: sqlite3.Connection, change: Change) -> Total:
    match change:
        case Put(key, value):
            _put(connection, key, value)
        case Delete(key):
            connection.execute("DELETE FROM entries WHERE key = ?", (key,))
        case Add(key) | AddIfAtMost(key):
            total = total_of(_get(connection, key), change)
            _put(connection, key, number_text(total))
            return total
        case _:
            assert_never(change)
    return None


def _put(connection: sqlite3.Connection, key: str, value: bytes) -> None:
    connection.execute("INSERT OR REPLACE INTO entries (key, value) VALUES (?, ?)", (key, value))
