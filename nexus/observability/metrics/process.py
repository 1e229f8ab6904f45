"""The metrics of this process and its Python, named as Prometheus's own client libraries name them."""

import os
import platform
import resource
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from nexus.observability.metrics.families import Family, counter, gauge

_PROC: Final = Path("/proc")


def process_families() -> Iterator[Family]:
    """Make the families; without ``/proc``, only the one of Python."""
    version = platform.python_version()
    labels = (version, platform.python_implementation(), *platform.python_version_tuple())
    yield gauge(
        "python_info",
        "Python platform information",
        {labels: 1},
        *("version", "implementation", "major", "minor", "patchlevel"),
        across="same",
    )
    try:
        stat = (_PROC / "self" / "stat").read_bytes().rpartition(b")")[2].split()
        open_fds = sum(1 for _ in (_PROC / "self" / "fd").iterdir())
        start_time_s = _start_time_s(int(stat[19]))
    except OSError:
        return
    memory_bytes = int(stat[21]) * os.sysconf("SC_PAGE_SIZE")
    max_fds = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", int(stat[20]), across="each")
    yield gauge("process_resident_memory_bytes", "Resident memory size in bytes.", memory_bytes, across="each")
    yield gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        start_time_s,
        across="each",
    )
    yield counter(
        "process_cpu_seconds", "Total user and system CPU time spent in seconds.", time.process_time(), across="each"
    )
    yield gauge("process_open_fds", "Number of open file descriptors.", open_fds, across="each")
    yield gauge("process_max_fds", "Maximum number of open file descriptors.", max_fds, across="each")


@lru_cache(maxsize=1)
def _start_time_s(ticks_after_boot: int) -> float:
    lines = (_PROC / "stat").read_text().splitlines()
    boot_time_s = next(float(line.split()[1]) for line in lines if line.startswith("btime "))
    return boot_time_s + ticks_after_boot / os.sysconf("SC_CLK_TCK")
