"""With which code a command ends, and the errors that have a code of their own."""

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
    """What a shell makes of a program that ends of this signal."""


class NoProxy(NexusError):
    """No proxy answers there; the text says why."""


class KeyRefused(NoProxy):
    """The proxy that answers asks for another key."""


class SeveralProxies(NexusError):
    """Several proxies could be meant; the text lists them."""


def exit_code_of(error: NexusError) -> ExitCode:
    """Return the code with which a command ends that *error* ends."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), ExitCode.FAILED)


_CODES = {
    ConfigError: ExitCode.CONFIG,
    KeyRefused: ExitCode.NO_PERMISSION,
    NoProxy: ExitCode.UNAVAILABLE,
    SeveralProxies: ExitCode.AMBIGUOUS,
}
"""The narrower error first."""
