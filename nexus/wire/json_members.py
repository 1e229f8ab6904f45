"""Finds the top-level members of a JSON object in its bytes, and detects duplicate names."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from nexus.wire.characters import as_long_with_whole_characters

MAX_MEMBERS: Final = 10_000
"""More than any API has parameters, and few enough to be read quickly."""

_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SCALAR: Final = re.compile(rb"[-+.0-9A-Za-z]++")
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NAME: Final = msgspec.json.Decoder(str)


class JsonMember(NamedTuple):
    """One member, and the position of its value."""

    name: str
    start: int
    end: int


class CrowdedObjectError(ValueError):
    """The object has too many members, or two with the same name."""

    def __init__(self, name: str | None) -> None:
        super().__init__("too many members" if name is None else "duplicate member")
        self.name = name
        """The duplicate name; None for too many members."""


def members(body: bytes) -> Iterator[JsonMember]:
    """Yield the members of the object in *body*, which must be valid JSON but for its characters, in order.

    :raises CrowdedObjectError: a name is duplicate, or there are more than 10 000 members.
    """
    try:
        values = _OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = as_long_with_whole_characters(body)
        values = _OBJECT.decode(body)
    seen: set[str] = set()
    at = _after_space(body, body.index(b"{") + 1)
    while body[at] != _CLOSING_BRACE:
        key_end = _end_of(_STRING, body, at)
        name = _NAME.decode(body[at:key_end])
        if name in seen or len(seen) == MAX_MEMBERS:
            raise CrowdedObjectError(name if name in seen else None)
        seen.add(name)
        start = _after_space(body, _after_space(body, key_end) + 1)
        end = _end_of_value(body, start, values[name])
        yield JsonMember(name, start, end)
        at = _after_space(body, end)
        if body[at] == _COMMA:
            at = _after_space(body, at + 1)


_CLOSING_BRACE: Final = ord("}")
_COMMA: Final = ord(",")


def _end_of_value(body: bytes, start: int, value: msgspec.Raw) -> int:
    """Return the end of the value that begins at *start*; *value* is what the decoder found under its name."""
    first = body[start : start + 1]
    if first == b'"':
        return _end_of(_STRING, body, start)
    if first not in (b"{", b"["):
        return _end_of(_SCALAR, body, start)
    # Nested values delimit themselves, so the decoder's bytes at this place are this value. If others are here, the
    # decoder has kept a later member of the same name.
    raw = bytes(value)
    if not body.startswith(raw, start):
        raise CrowdedObjectError(None)
    return start + len(raw)


def _after_space(body: bytes, at: int) -> int:
    return _end_of(_SPACE, body, at)


def _end_of(pattern: re.Pattern[bytes], body: bytes, at: int) -> int:
    found = pattern.match(body, at)
    if found is None:
        raise ValueError("not valid JSON")
    return found.end()
