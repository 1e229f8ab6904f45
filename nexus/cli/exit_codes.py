"""The exit codes of commands, and the errors that have one of their own."""

import os
import signal
from enum import IntEnum

from nexus.errors import ConfigError, NexusError


class ExitCode(IntEnum):
    """The numbers from 64 to 78 are those of ``sysexits.h``."""

    OK = 0
    FAILED = 1
    USAGE = 2
    AMBIGUOUS = os.EX_USAGE
    UNAVAILABLE = os.EX_UNAVAILABLE
    OUTPUT_LOST = os.EX_IOERR
    NO_PERMISSION = os.EX_NOPERM
    CONFIG = os.EX_CONFIG
    CLOSED_PIPE = 128 + signal.SIGPIPE
    """The code that shells report for a program that this signal has ended."""


class NoProxy(NexusError):
    """No proxy answers at the address; the text says why."""


class KeyRefused(NoProxy):
    """The proxy refuses the key, or the lack of one."""


class SeveralProxies(NexusError):
    """Several proxies run, and none was chosen; the text lists them."""


def exit_code_of(error: NexusError) -> ExitCode:
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), ExitCode.FAILED)


_CODES = {
    ConfigError: ExitCode.CONFIG,
    KeyRefused: ExitCode.NO_PERMISSION,
    NoProxy: ExitCode.UNAVAILABLE,
    SeveralProxies: ExitCode.AMBIGUOUS,
}
"""Subclasses stand before their base class."""
