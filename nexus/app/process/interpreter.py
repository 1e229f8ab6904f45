"""How long a thread may keep the interpreter while the event loop waits for it."""

import sys
from typing import Final

SWITCH_S: Final = 0.0002
"""How long another thread may keep the interpreter when the event loop asks for it, several times per request. With
Python's 5 ms, whatever a thread computes, such as spans or a reloaded configuration, is seen in the answers."""


def shorten_turns() -> None:
    """Let the event loop have the interpreter soon, whatever a thread computes."""
    sys.setswitchinterval(SWITCH_S)
