"""Finds the top-level members of a JSON object in its bytes, and tells whether two of them share a name."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

MAX_MEMBERS: Final = 10_000
"""No API has so many parameters; an object that does is made to keep a reader busy."""

_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SCALAR: Final = re.compile(rb"[-+.0-9A-Za-z]++")
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NAME: Final = msgspec.json.Decoder(str)


class JsonMember(NamedTuple):
    """One member, and where the bytes of its value are."""

    name: str
    start: int
    end: int


class CrowdedObjectError(ValueError):
    """The object has too many members, or two of one name."""

    def __init__(self, name: str | None) -> None:
        super().__init__("too many members" if name is None else "two members have one name")
        self.name = name
        """The name given twice, None when it is only their number."""


def members(body: bytes) -> Iterator[JsonMember]:
    """Yield the members of the object in *body*, which must be valid JSON, in the order of their bytes.

    :raises CrowdedObjectError: two members have one name, or there are more than 10 000.
    """
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
    """Return where the value that begins at *start* ends; *value* is what the decoder found under its name."""
    first = body[start : start + 1]
    if first == b'"':
        return _end_of(_STRING, body, start)
    if first not in (b"{", b"["):
        return _end_of(_SCALAR, body, start)
    # Nested values delimit themselves, so the decoder's own bytes, found here again, are this very value. When they
    # are not, the decoder kept a later member of the same name.
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
