"""The file of a database while it is open: whether its path still leads to it, and its content is still the same.

SQLite notices neither that its file was moved or deleted, nor that another was copied over it: it goes on in a file
that no restart finds, or mixes two. Each process therefore counts its writes in a row of its own, in the table
``openings``. Whenever the file has changed otherwise than by its own writes, the row is looked up in the bytes of the
file itself, past SQLite, which would answer from its memory and its journal.
"""

import os
import sqlite3
import time
import uuid
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from nexus.errors import StoreError

MAGIC: Final = b"SQLite format 3\0"
MAX_READ_BYTES: Final = 64 * 1024 * 1024
"""Of a larger file, nothing but its beginning is looked at."""
LOOKS: Final = 20
LOOK_S: Final = 0.05
"""Another process may be about to write the file: it is whole again in a moment."""
MAX_OPENINGS: Final = 1000
"""Processes that were killed leave their rows; those that wrote last stay."""

WHAT_TO_DO: Final = "put back what was there, or restart Nexus to go on with what is there now"

Stamp = tuple[int, int, int]


class OpenedFile:
    """Of one connection. All of it runs in the thread of the store."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._wal = path.with_name(f"{path.name}-wal")
        self._connection = connection
        self._token = uuid.uuid4().hex
        # Kept open as long as the connection: closing any descriptor of a file drops the locks of this process (POSIX).
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._identity = _identity(path)
            self._writes = self._written = 0
            self._stamp: Stamp | None = None
            """When the content was last known to be right."""
            self._bad_stamp: Stamp | None = None
            self._is_anchored = False
            """Whether the row has been in the file itself."""
            self._enter()
            self._wal_identity = _identity(self._wal)
        except BaseException:
            os.close(self._fd)
            raise

    def check(self) -> None:
        """Raise StoreError, or OSError, unless all is as it was."""
        if _identity(self._path) != self._identity:
            raise StoreError(f"store {self._path}: another file has taken its place; restart Nexus to go on with it")
        try:
            is_same = _identity(self._wal) == self._wal_identity
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise StoreError(f"store {self._path}: its journal {self._wal.name} was removed; {WHAT_TO_DO}")
        stamp = self._stamp_now()
        if stamp != self._stamp:
            self._look(stamp)

    def begin_write(self) -> None:
        """Count a write, within its transaction."""
        sql = "UPDATE openings SET writes = writes + 1, written_unix_s = ? WHERE token = ?"
        if self._connection.execute(sql, (_now(), self._token)).rowcount != 1:
            raise StoreError(f"store {self._path}: its content was replaced; {WHAT_TO_DO}")

    def end_write(self) -> None:
        """Bring what was committed from the journal into the file, so that no journal is mixed into another file."""
        self._writes += 1
        self._bring_over()

    def close(self) -> None:
        """Take the row out again, if the file is still the same, and let go of the file and its connection."""
        try:
            with suppress(StoreError, sqlite3.Error, OSError):
                self.check()
                self._connection.execute("DELETE FROM openings WHERE token = ?", (self._token,))
        finally:
            self._connection.close()
            os.close(self._fd)

    def _enter(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA wal_autocheckpoint = 0")
        execute("BEGIN IMMEDIATE")
        try:
            execute(
                "CREATE TABLE IF NOT EXISTS openings"
                " (token TEXT PRIMARY KEY, writes INTEGER NOT NULL, written_unix_s INTEGER NOT NULL) WITHOUT ROWID"
            )
            execute("INSERT INTO openings VALUES (?, 0, ?)", (self._token, _now()))
            execute(
                "DELETE FROM openings WHERE token NOT IN"
                " (SELECT token FROM openings ORDER BY written_unix_s DESC LIMIT ?)",
                (MAX_OPENINGS,),
            )
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        self._bring_over()

    def _bring_over(self) -> None:
        try:
            is_busy, in_journal, brought_over = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:
            # It is committed, and brought over with the next write.
            return
        if not is_busy and in_journal == brought_over:
            self._stamp, self._written, self._is_anchored = self._stamp_now(), self._writes, True

    def _stamp_now(self) -> Stamp:
        found = os.fstat(self._fd)
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size

    def _look(self, stamp: Stamp) -> None:
        if stamp == self._bad_stamp:
            raise self._overwritten()
        for look in range(LOOKS):
            if look:
                time.sleep(LOOK_S)
                stamp = self._stamp_now()
            if self._is_whole(stamp[2]):
                self._stamp = stamp
                return
        self._bad_stamp = stamp
        raise self._overwritten()

    def _overwritten(self) -> StoreError:
        return StoreError(f"store {self._path}: another content was written over it; {WHAT_TO_DO}")

    def _is_whole(self, size: int) -> bool:
        """Whether the file is still a database in which this process has written what it has."""
        content = os.pread(self._fd, min(size, MAX_READ_BYTES + 1), 0)
        if not content.startswith(MAGIC):
            return False
        if len(content) > MAX_READ_BYTES or not self._is_anchored:
            return True
        # As if it had no journal: what counts is what would be there without one.
        image = bytearray(content)
        image[18:20] = b"\1\1"
        with closing(sqlite3.connect(":memory:")) as read:
            try:
                read.deserialize(bytes(image))
                row = read.execute("SELECT writes FROM openings WHERE token = ?", (self._token,)).fetchone()
            except sqlite3.Error:
                return False
        if row is None or row[0] < self._written:
            return False
        self._written = row[0]
        return True


def _identity(path: Path) -> tuple[int, int]:
    """Say which file *path* leads to."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _now() -> int:
    return int(time.time())  # noqa: TID251 - it is compared with what other processes have written
