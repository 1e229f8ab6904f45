"""Whatever code of a plugin raises ends at the call of it; a Ctrl-C of the operator goes on.

In a proxy that serves, SIGINT is the event loop's, and a ``KeyboardInterrupt`` can only be the plugin's own. Elsewhere
Python raises it in whatever code runs: :func:`interrupts_noted` is what tells the two apart.
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
    """Let whatever is raised within be a :class:`PluginError`.

    :param complaint: names the plugin and what failed; what was raised follows it.
    :param passing: what goes on as it is.
    """
    try:
        yield
    except passing:
        raise
    except BaseException as exc:
        if is_interrupt(exc):
            raise
        raise PluginError(f"{complaint}: {told(exc)}") from exc


def is_interrupt(exc: BaseException) -> bool:
    """Whether *exc* is a Ctrl-C of the operator, and no ``KeyboardInterrupt`` that a plugin raises itself."""
    if not _noted["interrupts"]:
        return False
    if isinstance(exc, BaseExceptionGroup):
        return exc.subgroup(KeyboardInterrupt) is not None
    return isinstance(exc, KeyboardInterrupt)


@contextmanager
def interrupts_noted() -> Iterator[None]:
    """Note each SIGINT that comes meanwhile, and then do with it what is done without this."""
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        _noted["interrupts"] += 1
        if callable(before):
            before(number, frame)

    if not callable(before):
        # Ignored, or the end of the process: neither raises anything.
        yield
        return
    try:
        signal.signal(signal.SIGINT, note)
    except ValueError:
        # Not in the main thread, where alone Python raises it.
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


def told(exc: BaseException) -> str:
    """Return type and text of *exc*, whose own ``__str__`` may fail."""
    text = shown(exc)
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def shown(thing: object, as_text: Callable[[object], str] = str) -> str:
    """Return *thing* as text; its type when it cannot be made one."""
    try:
        return as_text(thing)
    except BaseException as exc:
        if is_interrupt(exc):
            raise
        return f"<{type(thing).__name__} that cannot be shown>"
