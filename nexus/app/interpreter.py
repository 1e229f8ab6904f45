"""Settings of the interpreter that suit a server: how long threads may keep it, and members of enums at full speed."""

import sys
from enum import EnumType
from typing import Final

from nexus.domain.outcome import Ending

SWITCH_S: Final = 0.0002
"""How long another thread may keep the interpreter when the event loop asks for it, several times per request. With
Python's 5 ms, whatever a thread computes, such as spans or a reloaded configuration, is seen in the answers."""


def suit_a_server() -> None:
    """Set the interpreter of this process up for serving, once."""
    sys.setswitchinterval(SWITCH_S)
    _quicken_enums()


def _quicken_enums() -> None:
    # In Python 3.11, members are in their class, as in 3.12, which has dropped this method. While it is there, a look
    # at a member takes five times as long, 0.1 to 0.2 us, and a request takes sixty.
    if "__getattr__" in vars(EnumType) and Ending.FINISHED.name in vars(Ending):
        del EnumType.__getattr__  # type: ignore[attr-defined]  # typeshed does not know it
