"""On what was measured: the machine and the versions that matter."""

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Final

LIBRARIES: Final = ("aiohttp", "uvloop", "httptools", "msgspec")
GIB: Final = 1024**3


def machine() -> str:
    """Return the processor, the memory, the kernel and the interpreter in one line."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    kernel = ".".join(platform.release().split(".")[:2])
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return (
        f"{os.cpu_count()} x {_processor()}, {memory_bytes / GIB:.0f} GiB, {platform.system()} {kernel} "
        f"({platform.machine()}), {python}"
    )


def libraries() -> str:
    """Return the versions of what the data path stands on."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)


def load_average() -> float:
    """Return how busy the machine was during the last minute: above a few tenths, figures are worth less."""
    return os.getloadavg()[0]


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()
