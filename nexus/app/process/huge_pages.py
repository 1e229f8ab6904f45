"""Starts the program again so that its memory is on huge pages, where Linux has them.

The objects that a proxy uses for one event of a stream, and for the next event of another stream, are spread over tens
of megabytes. With pages of 4 KiB, finding the addresses of the pages takes a quarter to a third of its processor time,
and more in a virtual machine. CPython's own allocator maps its memory in pieces that are too small for huge pages;
glibc's asks for them if it is told so in the environment, which it reads before the program begins.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

PROGRAM: Final = "nexus-proxy"
MODULE: Final = "nexus"
ALLOCATOR: Final = "PYTHONMALLOC"
TUNABLES: Final = "GLIBC_TUNABLES"
_HUGE_PAGES: Final = "glibc.malloc.hugetlb"
_ON_REQUEST: Final = "1"
"""The allocator asks the kernel for them with ``madvise``."""
_FIRST_GLIBC: Final = (2, 35)
_NAME: Final = Path("/proc/self/comm")
_WITH_VALUE: Final = frozenset({"-W", "-X"})
_MODES: Final = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def start_again() -> None:
    """Replace this program by itself, with the same arguments and process ID, if that brings huge pages."""
    environ = needed_environ() if sys.executable and is_program(sys.argv, sys.orig_argv) else None
    if environ is not None:
        # Should it fail, the proxy is only slower.
        with suppress(OSError):
            if has_name_of(sys.argv[0]):
                os.execve(sys.argv[0], sys.argv, environ)  # noqa: S606
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)  # noqa: S606


def has_name_of(script: str, name: Path = _NAME) -> bool:
    """Whether the process is named after *script*, as ``pkill nexus-proxy`` expects: the kernel has started that."""
    return name.read_text().rstrip("\n") == Path(script).name == PROGRAM


def is_program(argv: Sequence[str], orig_argv: Sequence[str]) -> bool:
    """Whether *orig_argv* starts ``nexus-proxy`` with the arguments in *argv*, and not a program that calls it."""
    first = len(orig_argv) - len(argv) + 1
    started, arguments = list(orig_argv[1:first]), list(orig_argv[first:])
    if arguments != list(argv[1:]):
        return False
    if started[-2:] == ["-m", MODULE]:
        return _are_options(started[:-2])
    return started[-1:] == [argv[0]] and Path(argv[0]).name == PROGRAM and _are_options(started[:-1])


def _are_options(words: Sequence[str]) -> bool:
    """Whether *words* are options of the interpreter, and name no module or script such as a debugger."""
    values = [at + 1 for at, word in enumerate(words) if word in _WITH_VALUE]
    return all(at in values or (word.startswith("-") and word != "-m") for at, word in enumerate(words))


def needed_environ() -> dict[str, str] | None:
    """Return the environment in which this program would be on huge pages; None if it is already, or cannot be."""
    can_change = has_huge_pages() and not sys.flags.ignore_environment
    return environ_with_huge_pages(os.environ) if can_change else None


def environ_with_huge_pages(environ: Mapping[str, str]) -> dict[str, str] | None:
    """Return *environ* with the settings of both allocators; None if it chooses an allocator, or has them already."""
    tunables = environ.get(TUNABLES, "")
    if ALLOCATOR in environ or _HUGE_PAGES in tunables:
        return None
    setting = f"{_HUGE_PAGES}={_ON_REQUEST}"
    return {**environ, ALLOCATOR: "malloc", TUNABLES: f"{tunables}:{setting}" if tunables else setting}


def has_huge_pages(modes: Path = _MODES) -> bool:
    """Whether glibc can ask the kernel for huge pages, and gets them."""
    try:
        version = re.fullmatch(r"glibc (\d+)\.(\d+).*", os.confstr("CS_GNU_LIBC_VERSION") or "")
        is_able = version is not None and (int(version[1]), int(version[2])) >= _FIRST_GLIBC
        # One of the modes is in brackets: "always [madvise] never".
        return is_able and "[never]" not in modes.read_text()
    except (OSError, ValueError):
        return False
