"""Reads the ids in an answer of things that its backend keeps."""

import re
from typing import Final

import msgspec

from nexus.wire.documents import read
from nexus.wire.streams.sse import SSEFraming

_ID: Final = re.compile(r"[A-Za-z0-9_.~:@+=,-]{1,256}")
"""Ids that can be part of a path; others are ignored."""
MAX_MADE: Final = 200
"""Per answer, which may be a list."""


def made_ids(body: bytes) -> tuple[str, ...]:
    """Return the ids in a whole answer or an event: its own, and those of its files and list items."""
    answer = read(_DECODER, body)
    if answer is None:
        return ()
    rows = [answer, answer.response, answer.file, *answer.data]
    found = [row.id for row in rows if row is not None]
    found += [answer.output_file_id, answer.error_file_id]
    return tuple(id_ for id_ in found[:MAX_MADE] if id_ is not None and _ID.fullmatch(id_))


def made_id_in_part(beginning: bytes) -> tuple[str, ...]:
    """Return the first id in the *beginning* of an answer that is too long to be decoded."""
    found = _FIRST_ID.search(beginning)
    return () if found is None else (found[1].decode(),)


_FIRST_ID: Final = re.compile(rb'"id"[ \t\n\r]*+:[ \t\n\r]*+"([A-Za-z0-9_.-]{1,256})"')


def made_ids_in_stream(beginning: bytes) -> tuple[str, ...]:
    """Return the ids in the first event of a stream that begins with *beginning*."""
    event = next(iter(SSEFraming().each(beginning)), None)
    return () if event is None else made_ids(event.content)


class _Named(msgspec.Struct):
    id: str | None = None


class _Document(_Named):
    response: _Named | None = None
    """In an event of the Responses API."""
    file: _Named | None = None
    """In a completed upload."""
    output_file_id: str | None = None
    error_file_id: str | None = None
    data: tuple[_Named, ...] = ()


_DECODER: Final = msgspec.json.Decoder(_Document)
