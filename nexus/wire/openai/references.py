"""Finds what a request refers to that one backend keeps: a response, a conversation, files."""

from collections.abc import Iterator
from itertools import islice
from typing import Final, Protocol

import msgspec

from nexus.domain.request import Reference
from nexus.wire.documents import read
from nexus.wire.kept.references import MAX_REFERENCES, file_references, refers_to_files

REFERRING: Final = frozenset({"openai.chat", "openai.responses", "openai.response_compact", "openai.batch_create"})
"""The endpoints whose bodies may refer to something."""

MAX_ID: Final = 256


class Referring(Protocol):
    """The members of a body that may hold an id."""

    @property
    def previous_response_id(self) -> msgspec.Raw: ...
    @property
    def conversation(self) -> msgspec.Raw: ...
    @property
    def input_file_id(self) -> msgspec.Raw: ...


def references_in(fields: Referring, body: bytes) -> tuple[Reference, ...]:
    """Return what *body* refers to, its own kind of ids first."""
    if not (fields.previous_response_id or fields.conversation or fields.input_file_id or refers_to_files(body)):
        return ()
    return tuple(islice(_references(fields, body), MAX_REFERENCES))


def _references(fields: Referring, body: bytes) -> Iterator[Reference]:
    for param in ("previous_response_id", "conversation", "input_file_id"):
        value: msgspec.Raw = getattr(fields, param)
        id_ = _id_in(value) if value else None
        if id_ and len(id_) <= MAX_ID:
            yield Reference(id_, param)
    yield from file_references(body)


class _Object(msgspec.Struct):
    id: str | None = None


_ID: Final = msgspec.json.Decoder(str | _Object | None)


def _id_in(value: msgspec.Raw) -> str | None:
    """Return the id that *value* is, or has; None when it is something else, which is the backend's to refuse."""
    decoded = read(_ID, bytes(value))
    return decoded.id if isinstance(decoded, _Object) else decoded
