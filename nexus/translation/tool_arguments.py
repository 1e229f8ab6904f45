"""The arguments of tools as JSON objects, for dialects that have no other."""

from typing import Final

import msgspec

from nexus.wire.characters import with_whole_characters
from nexus.wire.documents import read

INPUT: Final = "input"
"""The only argument of a custom tool where tools take objects."""

INPUT_SCHEMA: Final = msgspec.Raw(b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}')
"""The schema of a custom tool there."""


def is_object(text: str) -> bool:
    """Whether *text* is one complete JSON object."""
    return read(_OBJECT, text.encode()) is not None


def as_object(text: str) -> str:
    """Return the arguments *text* as an object, byte for byte if it is one, but for halves of characters.

    The plain input of a custom tool, and arguments that a model wrote wrongly, become the argument ``input``.
    """
    if not text or text.isspace():
        return "{}"
    # Anthropic's API refuses a body with half of a character.
    text = with_whole_characters(text.encode()).decode() if "\\ud" in text or "\\uD" in text else text
    return text if is_object(text) else input_arguments(text)


def input_arguments(text: str) -> str:
    """Return the arguments of a custom tool with this plain input, as an object."""
    return msgspec.json.encode(_Input(text)).decode()


class _Object(msgspec.Struct):
    """Any object."""


class _Input(msgspec.Struct):
    input: str


_OBJECT: Final = msgspec.json.Decoder(_Object)
