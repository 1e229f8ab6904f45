"""Restores the model's name that the client asked for in its answer, and changes no other byte."""

import re
from typing import Final

import msgspec

from nexus.wire.json_members import members

_LINE: Final = re.compile(rb"[^\r\n]*+[\r\n]*+")
_MEMBER: Final = re.compile(rb'"model"[ \t]*+:[ \t]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")')
_NAME: Final = msgspec.json.Decoder(str)


def restore_in_document(body: bytes, sent: str, requested: str) -> bytes:
    """Return a JSON object with *requested* for its top-level ``model`` if that is *sent*; anything else as it is."""
    try:
        spans = [(member.start, member.end) for member in members(body) if member.name == "model"]
    except (ValueError, RecursionError):
        # Not an object, or an ambiguous one, which is passed on unchanged.
        return body
    return _restored(body, *spans[0], sent, requested) if spans else body


def restore_in_events(events: bytes, sent: str, requested: str) -> bytes:
    """Return whole events of a stream with *requested* for each ``model`` that is *sent*.

    Only the first ``model`` of a line is the answer's own: later ones can be text of the model or the client, such as
    the arguments of a tool.
    """
    if b'"model"' not in events:
        return events
    return b"".join(_restored_line(line, sent, requested) for line in _LINE.findall(events))


def _restored_line(line: bytes, sent: str, requested: str) -> bytes:
    found = _MEMBER.search(line)
    return line if found is None else _restored(line, *found.span(1), sent, requested)


def _restored(text: bytes, start: int, end: int, sent: str, requested: str) -> bytes:
    try:
        name = _NAME.decode(text[start:end])
    except msgspec.DecodeError:
        return text
    return b"".join((text[:start], msgspec.json.encode(requested), text[end:])) if name == sent else text
