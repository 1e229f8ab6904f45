"""Turns any exception of a plugin into an error that names the plugin, except for the operator's Ctrl-C.

While the proxy serves, the event loop handles SIGINT, so a ``KeyboardInterrupt`` can only come from a plugin. Elsewhere
Python raises it in whatever code runs, and :func:`interrupts_noted` distinguishes the two.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from nexus.errors import NexusError, PluginError

_noted: Final = {"interrupts": 0, "depth": 0}


@contextmanager
def contained(complaint: str, passing: tuple[type[BaseException], ...] = (NexusError,)) -> Iterator[None]:
    """Turn any exception raised within into a :class:`PluginError`.

    :param complaint: names the plugin and what failed; the exception is appended.
    :param passing: exceptions that are not changed.
    """
    try:
        yield
    except passing:
        raise
    except BaseException as exc:
        if is_interrupt(exc):
            raise
        raise PluginError(f"{complaint}: {described(exc)}") from exc


def is_interrupt(exc: BaseException) -> bool:
    """Whether *exc* is the operator's Ctrl-C, rather than a ``KeyboardInterrupt`` that a plugin raises itself."""
    if not _noted["interrupts"]:
        return False
    if isinstance(exc, BaseExceptionGroup):
        return exc.subgroup(KeyboardInterrupt) is not None
    return isinstance(exc, KeyboardInterrupt)


@contextmanager
def interrupts_noted() -> Iterator[None]:
    """Count each SIGINT within, and pass it to the previous handler."""
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        _noted["interrupts"] += 1
        if callable(before):
            before(number, frame)

    if not callable(before):
        # SIGINT is ignored or ends the process, so no exception is raised.
        yield
        return
    try:
        signal.signal(signal.SIGINT, note)
    except ValueError:
        # Outside of the main thread, where Python never raises it.
        yield
        return
    _noted["depth"] += 1
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, before)
        _noted["depth"] -= 1
        if not _noted["depth"]:
            _noted["interrupts"] = 0


def described(exc: BaseException) -> str:
    """Return the type and text of *exc*, even if its ``__str__`` fails."""
    text = safe_text(exc)
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def safe_text(thing: object, as_text: Callable[[object], str] = str) -> str:
    """Return *thing* as text, or its type when the conversion fails."""
    try:
        return as_text(thing)
    except BaseException as exc:
        if is_interrupt(exc):
            raise
        return f"<{type(thing).__name__} that cannot be shown>"
