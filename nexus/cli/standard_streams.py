"""Opens standard streams that are closed, and detects output that cannot be written."""

import os
import sys
from traceback import walk_tb
from typing import Final

import click

_STREAMS: Final = (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))
"""By descriptor: name, mode, and the flags of its replacement. Output is opened for reading, so that printing fails."""

_replaced: Final[set[str]] = set()


def open_closed_streams() -> None:
    """Open the null device for each standard stream that is closed.

    Otherwise the next file or socket would get its descriptor, and libuv aborts when it closes one of these.
    """
    for number, (name, mode, flags) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            _open_null(number, flags)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - stays open until the process ends
            _replaced.add(name)


def forgive_closed_output() -> None:
    """Discard output, instead of failing, when standard output was closed at the start."""
    if "stdout" in _replaced:
        drop_output()


def drop_output() -> None:
    """Discard buffered output, so that it does not fail again when the interpreter ends."""
    _open_null(sys.stdout.fileno(), os.O_WRONLY)


def output_failure(exc: BaseException | None = None) -> OSError | None:
    """Return the error that keeps output from being written; None when there is none.

    :param exc: the exception that ended the command.
    """
    # An exception of a plugin's command is the cause of a PluginError.
    raised = exc if exc is None or isinstance(exc, OSError) else exc.__cause__
    if isinstance(raised, OSError) and _is_of_echo(raised):
        return raised
    try:
        # Output that is still buffered after a failed write fails again.
        sys.stdout.flush()
    except OSError as failure:
        return failure
    return None


def _is_of_echo(exc: OSError) -> bool:
    codes = [frame.f_code for frame, _ in walk_tb(exc.__traceback__)]
    return bool(codes) and codes[-1] is click.echo.__code__


def _open_null(number: int, flags: int) -> None:
    null = os.open(os.devnull, flags)
    if null == number:
        os.set_inheritable(number, True)  # noqa: FBT003 - takes no keyword
    else:
        os.dup2(null, number)
        os.close(null)
