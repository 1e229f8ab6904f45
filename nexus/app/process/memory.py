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
BUSY_GROWTH_BYTES: Final = 4 * GROWTH_BYTES
"""The same while requests run: trimming a gigabyte stops them for about 20 ms."""
SKIPPED_LOOKS: Final = 2
"""After a trim that returned little, because the requests need their memory."""
MMAP_THRESHOLD_BYTES: Final = 4 * 1024 * 1024
"""Longer blocks are mapped separately, and unmapped when they are freed. Shorter ones, such as the body of a request,
are reused: the kernel would clear each page of a new mapping. Unless it is set, glibc raises the threshold with each
such block that is freed, up to 32 MiB."""
TRIM_THRESHOLD_BYTES: Final = 16 * 1024 * 1024
"""Free memory at the end of the heap is returned at once when it is longer."""
MAX_ARENAS: Final = 2
"""By default, each thread gets an arena, which keeps the memory that it once needed."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_STATM: Final = Path("/proc/self/statm")


def bound_arenas() -> None:
    """Make glibc keep less freed memory; with another C library, do nothing."""
    set_option = _function("mallopt")
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        set_option(_M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
        set_option(_M_ARENA_MAX, MAX_ARENAS)


async def give_back(is_idle: Callable[[], bool], look_s: float = LOOK_S) -> None:
    """Trim memory whenever it has grown; run until cancelled. Return at once if the C library cannot trim.

    While requests run, it must have grown more, and stayed so from one look to the next.
    """
    trim = _function("malloc_trim")
    least = await asyncio.to_thread(resident_bytes)
    if trim is None or least is None:
        return
    before, looks_skipped = least, 0
    while True:
        await asyncio.sleep(look_s)
        now = await asyncio.to_thread(_resident_or, least)
        lasting, before = min(now, before), now
        least = min(now, least)
        idle = is_idle()
        if looks_skipped and not idle:
            looks_skipped -= 1
        elif now > least + GROWTH_BYTES if idle else lasting > least + BUSY_GROWTH_BYTES:
            # In a thread, because trimming takes time for each page.
            await asyncio.to_thread(trim, 0)
            before = await asyncio.to_thread(_resident_or, now)
            if idle:
                least = before
            elif now - before < GROWTH_BYTES:
                looks_skipped = SKIPPED_LOOKS


def _resident_or(before: int) -> int:
    return resident_bytes() or before


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
