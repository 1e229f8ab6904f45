"""How many cores this process may use: its affinity, and the limit of its control group."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from nexus.config.schema import ServerConfig

CPU_MAX: Final = Path("/sys/fs/cgroup/cpu.max")
"""``QUOTA PERIOD`` in microseconds, or ``max PERIOD`` (Linux, Documentation/admin-guide/cgroup-v2.rst). In a container,
this is the limit of its own group."""


def wanted_workers(server: ServerConfig) -> int:
    """Return how many processes are to serve."""
    return usable_cores() if server.workers == "auto" else server.workers


def usable_cores(cpu_max: Path = CPU_MAX, affinity: Callable[[], int] | None = None) -> int:
    """Return the number of whole cores that this process may use, at least 1.

    :param affinity: returns the number of cores that it may run on; None: as the system says.
    """
    allowed = (affinity or _affinity)()
    with suppress(OSError, ValueError):
        quota, period = cpu_max.read_text().split()
        if quota != "max":
            # A worker beyond the quota would only be throttled, and its streams with it.
            allowed = min(allowed, int(quota) // int(period))
    return max(allowed, 1)


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        # Not on macOS.
        return os.cpu_count() or 1
