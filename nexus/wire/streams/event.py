"""One event of a stream, and what it says of the answer's course."""

from enum import Enum, auto
from typing import NamedTuple


class Event(NamedTuple):
    """One event, or one line."""

    name: bytes
    """Of a server-sent event; empty when it has none."""
    content: bytes
    """The JSON in it, or ``[DONE]``."""


class Sense(Enum):
    """What an event is for."""

    LIFECYCLE = auto()
    """It says that something begins or goes on; nobody would miss it if the answer came from elsewhere."""
    CONTENT = auto()
    """A part of the answer, or something that we do not know."""
    ERROR = auto()
