"""A started program: its processor time, its memory, its log, and its end."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from comparing import machine
from comparing.cores import starting_on

STOP_S: Final = 10.0
KIB: Final = 1024


class Program:
    """A program and the children that it has."""

    def __init__(self, started: "subprocess.Popen[bytes]", log: Path) -> None:
        self._started = started
        self.log = log

    @property
    def has_ended(self) -> bool:
        return self._started.poll() is not None

    def cpu_s(self) -> float:
        """Return the processor time spent so far, in user and system mode."""
        return sum(map(_cpu_s, self._pids()))

    def rss_kib(self) -> float:
        """Return the resident memory; what parent and children share counts for each."""
        return sum(_rss_kib(pid) for pid in self._pids())

    def stop(self) -> None:
        """End it, and all that it started."""
        if not self.has_ended:
            os.killpg(self._started.pid, signal.SIGTERM)
        try:
            self._started.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._started.pid, signal.SIGKILL)
            self._started.wait()

    def _pids(self) -> Iterator[int]:
        """Yield the group's members: it leads one of its own."""
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() and _group_of(int(entry.name)) == self._started.pid:
                yield int(entry.name)


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    cores: frozenset[int],
    log: Path,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Program]:
    """Run *command* on *cores*, with *environ* added to a clean environment and its output in *log*."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("NEXUS_") and name not in machine.ALLOCATORS
    }
    # Appended to, so that it may be emptied while the program runs.
    with log.open("ab") as output, starting_on(cores):
        started = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**inherited, **environ},
            cwd=log.parent,
            start_new_session=True,
        )
    program = Program(started, log)
    try:
        yield program
    finally:
        program.stop()


def _group_of(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[2]) if fields else None


def _cpu_s(pid: int) -> float:
    # clock_getcpuclockid(3) as Linux computes it; /proc counts in hundredths of a second only.
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0


def _rss_kib(pid: int) -> float:
    fields = _stat(pid)
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / KIB if fields else 0


def _stat(pid: int) -> list[str]:
    """Return the fields of proc(5)'s ``stat`` from ``state``, the third, on; none when the process is gone."""
    try:
        # The name before them may hold spaces and parentheses.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
