"""Tunes the interpreter for a process that lives long, and for an event loop that shares it with threads."""

import gc
import sys
from importlib import import_module
from types import ModuleType
from typing import Final

SWITCH_S: Final = 0.0002
"""How long a thread may hold the interpreter when the event loop needs it. Python's default of 5 ms would add to every
response whenever a thread computes something, such as spans or a new configuration."""


def imported(name: str) -> ModuleType:
    """Import a module that imports many others, and exclude what they consist of from collections.

    Nearly all of it lives until the process ends, and the collector would look at it several times: a fifth of the time
    that such an import takes.
    """
    if name in sys.modules:
        return sys.modules[name]
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        module = import_module(name)
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
    return module


def shorten_switch_interval() -> None:
    """Let the event loop interrupt threads sooner."""
    sys.setswitchinterval(SWITCH_S)


def tune_collector() -> None:
    """Exclude the objects of the start, which live for ever, from collections, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
