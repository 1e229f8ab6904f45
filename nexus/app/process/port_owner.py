"""Finds the process that listens on a port; only root can see the processes of other users."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

LISTENING: Final = "0A"
"""The state of a socket in ``/proc/net/tcp``; see proc_pid_net(5)."""
UNKNOWN: Final = "another program (as root, `ss -ltnp` names it)"


def owner_of(port: int, proc: Path = Path("/proc")) -> str:
    """Return the name and id of the process that listens on *port*, for an error message."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port, proc)}
    owners = {
        process.name: process
        for process in (proc.glob("[0-9]*") if sockets else ())
        if not sockets.isdisjoint(_open_files(process))
    }
    for number, process in owners.items():
        # Workers share the socket of their parent, which is the one to stop.
        if _parent_of(process) not in owners:
            return f"{_name_of(process)} (process {number})"
    return UNKNOWN


def _inodes(port: int, proc: Path) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        for line in _text(proc / "net" / table).splitlines()[1:]:
            _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
            if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                yield inode


def _open_files(process: Path) -> Iterator[str]:
    try:
        for file in (process / "fd").iterdir():
            yield str(file.readlink())
    except OSError:
        # The process belongs to another user, or has just ended.
        return


def _parent_of(process: Path) -> str:
    """Return the id of the parent; see proc_pid_stat(5). The name before it may hold any character."""
    _, _, rest = _text(process / "stat").rpartition(")")
    return rest.split()[1] if rest else ""


def _name_of(process: Path) -> str:
    words = [Path(word).name for word in _text(process / "cmdline").split("\0")[:2]]
    # A script runs under the name of its interpreter.
    is_script = len(words) == 2 and words[0].startswith("python") and words[1] and not words[1].startswith("-")
    name = words[1] if is_script else _text(process / "comm").strip()
    return name if name.isprintable() and name else "a process"


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
