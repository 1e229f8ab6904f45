"""Shortens a long event, so that the end of a stream is remembered without its images and texts."""

from typing import Any, Final

import msgspec

from nexus.wire.documents import read
from nexus.wire.streams.event import Event

MAX_TEXT: Final = 256
"""Characters of each text that are kept; types, stop reasons and numbers are shorter."""
MAX_ITEMS: Final = 32
MAX_DEPTH: Final = 6
_ANYTHING: Final = msgspec.json.Decoder()


def summary(event: Event) -> Event:
    """Return *event* with all its members, and its long texts and lists truncated."""
    content = read(_ANYTHING, event.content)
    if content is None:
        return Event(event.name, event.content[:MAX_TEXT])
    return Event(event.name, msgspec.json.encode(_shortened(content, MAX_DEPTH)))


def _shortened(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value[:MAX_TEXT]
    if isinstance(value, dict):
        return {name: _shortened(inner, depth - 1) for name, inner in value.items()} if depth else {}
    if isinstance(value, list):
        return [_shortened(inner, depth - 1) for inner in value[:MAX_ITEMS]] if depth else []
    return value
