"""One event of a stream, and its purpose."""

from enum import Enum, auto
from typing import NamedTuple


class Event(NamedTuple):
    """One event, or one line."""

    name: bytes
    """Of a server-sent event; empty when it has none."""
    content: bytes
    """The JSON in it, or ``[DONE]``."""


class Purpose(Enum):
    """The purpose of an event."""

    LIFECYCLE = auto()
    """It reports progress, and can be dropped when another backend answers instead."""
    CONTENT = auto()
    """A part of the answer, or of unknown meaning."""
    ERROR = auto()
