"""The machine on which the benchmark ran, and the versions that matter."""

import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path
from typing import Final

from nexus.app.process.huge_pages import ALLOCATOR, TUNABLES, needed_environ

ALLOCATORS: Final = (ALLOCATOR, TUNABLES)
"""What chooses the memory of this program, and not of those that it starts."""
LIBRARIES: Final = ("aiohttp", "uvloop", "httptools", "msgspec")
GIB: Final = 1024**3
MAX_QUIET_LOAD: Final = 0.7


def machine() -> str:
    """Return the processor, the memory, the kernel and the interpreter in one line."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    kernel = ".".join(platform.release().split(".")[:2])
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return (
        f"{os.cpu_count()} x {_processor()}, {memory_bytes / GIB:.0f} GiB, {platform.system()} {kernel} "
        f"({platform.machine()}), {python}"
    )


def start_on_huge_pages() -> None:
    """Start this program again with the kind of memory that the proxy has, for what is measured in this process."""
    if (environ := needed_environ()) is not None:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)


def libraries() -> str:
    """Return the versions of what the data path stands on."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)


def load_average() -> float:
    """Return how busy the machine was during the last minute: above a few tenths, figures are worth less."""
    return os.getloadavg()[0]


def disturbance(load_average: float) -> str:
    """Return a sentence about what else ran; empty when the machine was quiet."""
    if load_average <= MAX_QUIET_LOAD:
        return ""
    return (
        "The machine was not quiet: other programs shared both cores, which costs an interpreter more than compiled "
        "code and delays the slowest answers most. Neither values nor ratios are those of a quiet machine."
    )


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()
