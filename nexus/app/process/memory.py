"""Returns memory to the system after a burst of long responses; glibc would keep it."""

import asyncio
import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

LOOK_S: Final = 10.0
"""How often memory is checked."""
GROWTH_BYTES: Final = 16 * 1024 * 1024
"""How far memory must have grown to be worth trimming."""
MMAP_THRESHOLD_BYTES: Final = 128 * 1024
"""Longer blocks are mapped separately, and unmapped when they are freed. Unless it is set, glibc raises the threshold
with each such block that is freed, up to 32 MiB."""
MAX_ARENAS: Final = 2
"""By default, each thread gets an arena, which keeps the memory that it once needed."""

_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_STATM: Final = Path("/proc/self/statm")


def bound_arenas() -> None:
    """Make glibc keep less freed memory; with another C library, do nothing."""
    set_option = _function("mallopt")
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        set_option(_M_ARENA_MAX, MAX_ARENAS)


async def give_back(is_idle: Callable[[], bool], look_s: float = LOOK_S) -> None:
    """Trim memory whenever it has grown and the proxy is idle; run until cancelled.

    Return at once if the C library cannot trim.
    """
    trim = _function("malloc_trim")
    least = await asyncio.to_thread(resident_bytes)
    if trim is None or least is None:
        return
    while True:
        await asyncio.sleep(look_s)
        if is_idle():
            # In a thread, because trimming takes time for each page.
            least = await asyncio.to_thread(_trimmed, trim, least)


def _trimmed(trim: Callable[[int], int], least: int) -> int:
    """Call *trim* if memory has grown much beyond *least*; return the new least."""
    now = resident_bytes() or least
    if now > least + GROWTH_BYTES:
        trim(0)
        return resident_bytes() or now
    return min(now, least)


def resident_bytes() -> int | None:
    """Return the resident memory of this process; None if the system has no ``/proc``."""
    with suppress(OSError, ValueError, IndexError):
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def _function(name: str) -> Callable[..., int] | None:
    """Return a function of glibc; None with another C library."""
    try:
        library = ctypes.CDLL(None)
        # Other C libraries have functions with these names and another meaning.
        _ = library.gnu_get_libc_version
        function: Callable[..., int] = getattr(library, name)
    except (OSError, AttributeError, TypeError):
        return None
    return function
