"""Checks whether this process may keep a file at a path, with errors that an operator can act on."""

import errno
import os
import pwd
import stat
from pathlib import Path
from typing import Final

ANOTHER_FILE: Final = "name another file with store.path"


def examine(path: Path) -> None:
    """Raise OSError unless this process can create the file *path*, or open it for writing where it exists."""
    folder = path.parent
    found = _found(path)
    if found is None and not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {folder}; create it, or {ANOTHER_FILE}")
    if found is None or stat.S_ISREG(found.st_mode):
        _examine_access(folder, found)
    else:
        raise OSError(errno.EISDIR, f"it is not a regular file; {ANOTHER_FILE}")


def _found(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except PermissionError as exc:
        raise _denied(f"look into the folder {path.parent}") from exc


def _examine_access(folder: Path, found: os.stat_result | None) -> None:
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, f"the folder {folder} is read-only for this process; {ANOTHER_FILE}")
    # SQLite keeps its journals beside the file, so that an existing file needs a writable folder too.
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _denied(f"write to the folder {folder}")
    if found is None:
        return
    if os.geteuid() not in {0, found.st_uid}:
        raise _denied(f"use it, because it belongs to {user_name(found.st_uid)}")


def _denied(what: str) -> PermissionError:
    us = user_name(os.geteuid())
    return PermissionError(errno.EACCES, f"{us} cannot {what}; change its owner to {us}, or {ANOTHER_FILE}")


def user_name(uid: int) -> str:
    """Return the name of the user *uid* for error texts."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
