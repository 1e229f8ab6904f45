"""The three standard streams: there from the start on, and told of when what a command prints cannot be written."""

import os
import sys
from traceback import walk_tb
from typing import Final

import click

_STREAMS: Final = (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))
"""By descriptor: name, mode, and how its stand-in is opened. A command that prints into nothing is to fail."""

_stood_in_for: Final[set[str]] = set()


def open_closed_streams() -> None:
    """Open the null device for each standard stream that is closed.

    Otherwise the next file or socket that is opened gets its number, and is taken for it: libuv ends the process when
    it closes one of these numbers.
    """
    for number, (name, mode, flags) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            _open_null(number, flags)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - for as long as the process
            _stood_in_for.add(name)


def forgive_closed_output() -> None:
    """Let what is printed vanish when standard output was closed, instead of being an error."""
    if "stdout" in _stood_in_for:
        drop_output()


def drop_output() -> None:
    """Let what waits to be written vanish: it must not fail once more when the interpreter ends."""
    _open_null(sys.stdout.fileno(), os.O_WRONLY)


def output_failure(exc: BaseException | None = None) -> OSError | None:
    """Return why what was printed cannot be written; None when it can.

    :param exc: what has ended the command.
    """
    # What the command of a plugin raises is the cause of what is told of it.
    raised = exc if exc is None or isinstance(exc, OSError) else exc.__cause__
    if isinstance(raised, OSError) and _is_of_echo(raised):
        return raised
    try:
        # What a buffer holds that could not be written fails again.
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
