"""How many cores this process may use: its affinity, and the limits of its control groups."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

from nexus.config.schema import ServerConfig

GROUPS: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")
"""One line for each hierarchy: ``ID:CONTROLLERS:PATH``, with no controllers in version 2; see cgroups(7)."""


def wanted_workers(server: ServerConfig) -> int:
    """Return how many processes are to serve."""
    return usable_cores() if server.workers == "auto" else server.workers


def usable_cores(
    groups: Path = GROUPS, membership: Path = MEMBERSHIP, affinity: Callable[[], int] | None = None
) -> int:
    """Return the number of whole cores that this process may use, at least 1.

    :param affinity: returns the number of cores that it may run on; None: as the system says.
    """
    allowed = (affinity or _affinity)()
    for quota, period in _quotas(groups, membership):
        # A worker beyond the quota would only be throttled, and its streams with it.
        allowed = min(allowed, quota // period)
    return max(allowed, 1)


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        # Not on macOS.
        return os.cpu_count() or 1


def _quotas(groups: Path, membership: Path) -> Iterator[tuple[int, int]]:
    """Yield the limits of all groups of this process, each as microseconds in a period of so many."""
    for top, folder in _folders(groups, membership):
        for each in (folder, *folder.parents):
            with suppress(OSError, ValueError):
                # Version 2: ``QUOTA PERIOD``, or ``max PERIOD``.
                quota, period = (each / "cpu.max").read_text().split()
                yield int(quota), int(period)
            with suppress(OSError, ValueError):
                # Version 1: -1 for no limit.
                quota, period = (each / "cpu.cfs_quota_us").read_text(), (each / "cpu.cfs_period_us").read_text()
                if int(quota) > 0:
                    yield int(quota), int(period)
            if each == top:
                break


def _folders(groups: Path, membership: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the top of each hierarchy that may limit processors, and the folder of this process in it.

    A container sees its own group at the top. Its path there may be that of the host, of which it has no folder.
    """
    yield groups, groups
    yield groups / "cpu", groups / "cpu"
    with suppress(OSError, ValueError):
        for line in membership.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            top = groups / "cpu" if controllers else groups
            is_below = ".." not in PurePosixPath(path).parts
            if is_below and (not controllers or "cpu" in controllers.split(",")):
                yield top, top / path.lstrip("/")
