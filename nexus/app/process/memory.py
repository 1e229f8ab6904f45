"""Gives memory back to the system that a burst of long answers has needed, and glibc would keep for the next one."""

import asyncio
import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

LOOK_S: Final = 10.0
"""How often memory is looked at."""
GROWTH_BYTES: Final = 16 * 1024 * 1024
"""With less than this above what was left last time, there is nothing worth giving back."""
MMAP_THRESHOLD_BYTES: Final = 128 * 1024
"""What is longer than this is taken from the system for itself, and goes back when it is freed. Without a fixed value
glibc raises its own, up to 32 MiB, with each such block that is freed."""
MAX_ARENAS: Final = 2
"""Each thread would have one otherwise, which keeps what it has once needed."""

_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_STATM: Final = Path("/proc/self/statm")


def bound_arenas() -> None:
    """Let glibc keep little of what is freed; elsewhere, do nothing."""
    set_option = _function("mallopt")
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        set_option(_M_ARENA_MAX, MAX_ARENAS)


async def give_back(is_idle: Callable[[], bool], look_s: float = LOOK_S) -> None:
    """Give back what is free, whenever memory has grown and nothing is under way; run until cancelled.

    Returns at once where the system has no such call.
    """
    trim = _function("malloc_trim")
    least = await asyncio.to_thread(resident_bytes)
    if trim is None or least is None:
        return
    while True:
        await asyncio.sleep(look_s)
        if is_idle():
            # In a thread: each page that goes back takes its time.
            least = await asyncio.to_thread(_trimmed, trim, least)


def _trimmed(trim: Callable[[int], int], least: int) -> int:
    """Call *trim* if memory has grown much beyond *least*; return what is the least now."""
    now = resident_bytes() or least
    if now > least + GROWTH_BYTES:
        trim(0)
        return resident_bytes() or now
    return min(now, least)


def resident_bytes() -> int | None:
    """Return how much of this process is in memory; None where the system does not tell in this way."""
    with suppress(OSError, ValueError, IndexError):
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def _function(name: str) -> Callable[..., int] | None:
    """Return a function of glibc; None where the C library is another one."""
    try:
        library = ctypes.CDLL(None)
        # Others have functions of these names that mean something else.
        _ = library.gnu_get_libc_version
        function: Callable[..., int] = getattr(library, name)
    except (OSError, AttributeError, TypeError):
        return None
    return function
