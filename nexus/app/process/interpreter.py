"""Tunes the interpreter for an event loop that shares it with threads."""

import gc
import sys
from typing import Final

SWITCH_S: Final = 0.0002
"""How long a thread may hold the interpreter when the event loop needs it. Python's default of 5 ms would add to every
response whenever a thread computes something, such as spans or a new configuration."""


def shorten_switch_interval() -> None:
    """Let the event loop interrupt threads sooner."""
    sys.setswitchinterval(SWITCH_S)


def tune_collector() -> None:
    """Exclude the objects of the start, which live for ever, from collections, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
