"""Checks that the file of an open database is still the one that was opened, with the same content.

SQLite does not notice that its file was moved, deleted or overwritten: it continues in a file that no restart finds, or
mixes two. Each process therefore counts its writes in its own row of the table ``openings``. When the file was changed
by anything else, that row is read from the bytes of the file itself, because SQLite would read it from its cache and
its journal.
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
"""Of a larger file, only the beginning is checked."""
CHECKS: Final = 20
CHECK_PAUSE_S: Final = 0.05
"""Pause between checks: another process may be writing the file, which is then valid again in a moment."""
MAX_OPENINGS: Final = 1000
"""Killed processes leave their rows; the most recently written ones are kept."""

WHAT_TO_DO: Final = "restore the file, or restart Nexus to continue with the present one"

Stamp = tuple[int, int, int]


class OpenedFile:
    """The file of one connection. All methods run in the thread of the store."""

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
            """Of the file when its content was last valid."""
            self._bad_stamp: Stamp | None = None
            self._is_anchored = False
            """Whether the row has reached the file itself."""
            self._insert_row()
            self._wal_identity = _identity(self._wal)
        except BaseException:
            os.close(self._fd)
            raise

    def check(self) -> None:
        """Raise StoreError or OSError unless file and journal are the ones that were opened."""
        if _identity(self._path) != self._identity:
            raise StoreError(f"store {self._path}: another file has taken its place; restart Nexus to continue with it")
        try:
            is_same = _identity(self._wal) == self._wal_identity
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise StoreError(f"store {self._path}: its journal {self._wal.name} was removed; {WHAT_TO_DO}")
        stamp = self._stamp_now()
        if stamp != self._stamp:
            self._check_content(stamp)

    def begin_write(self) -> None:
        """Count a write, within its transaction."""
        sql = "UPDATE openings SET writes = writes + 1, written_unix_s = ? WHERE token = ?"
        if self._connection.execute(sql, (_now(), self._token)).rowcount != 1:
            raise StoreError(f"store {self._path}: its content was replaced; {WHAT_TO_DO}")

    def end_write(self) -> None:
        """Move what was committed from the journal into the file, so that no journal is mixed into another file."""
        self._writes += 1
        self._checkpoint()

    def close(self) -> None:
        """Delete the row, if the file is still the same, and close the file and its connection."""
        try:
            with suppress(StoreError, sqlite3.Error, OSError):
                self.check()
                self._connection.execute("DELETE FROM openings WHERE token = ?", (self._token,))
        finally:
            self._connection.close()
            os.close(self._fd)

    def _insert_row(self) -> None:
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
        self._checkpoint()

    def _checkpoint(self) -> None:
        try:
            is_busy, in_journal, moved = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:
            # It is committed, and moved with the next write.
            return
        if not is_busy and in_journal == moved:
            self._stamp, self._written, self._is_anchored = self._stamp_now(), self._writes, True

    def _stamp_now(self) -> Stamp:
        found = os.fstat(self._fd)
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size

    def _check_content(self, stamp: Stamp) -> None:
        if stamp == self._bad_stamp:
            raise self._overwritten()
        for check in range(CHECKS):
            if check:
                time.sleep(CHECK_PAUSE_S)
                stamp = self._stamp_now()
            if self._is_valid(stamp[2]):
                self._stamp = stamp
                return
        self._bad_stamp = stamp
        raise self._overwritten()

    def _overwritten(self) -> StoreError:
        return StoreError(f"store {self._path}: its content was overwritten; {WHAT_TO_DO}")

    def _is_valid(self, size: int) -> bool:
        """Whether the file is a database that contains all writes of this process."""
        content = os.pread(self._fd, min(size, MAX_READ_BYTES + 1), 0)
        if not content.startswith(MAGIC):
            return False
        if len(content) > MAX_READ_BYTES or not self._is_anchored:
            return True
        # Mark it as having no journal, so that only its own content is read.
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
    """Return device and inode of the file at *path*."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _now() -> int:
    return int(time.time())  # noqa: TID251 - it is compared with what other processes have written
