"""Decodes JSON of backends, which may be truncated or invalid."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

import msgspec

from nexus.wire.characters import with_whole_characters

T = TypeVar("T")

ANY_OBJECT: Final = msgspec.json.Decoder(dict[str, Any], float_hook=lambda digits: msgspec.Raw(digits.encode()))
"""Keeps the digits of numbers with a fraction, for a document that is written again."""

_ANY: Final = msgspec.json.Decoder(msgspec.Raw)
_FALSY: Final = frozenset({b"", b"null", b'""', b"{}", b"[]", b"false"})


def is_whole(body: bytes) -> bool:
    """Whether *body* is one complete JSON document."""
    return read(_ANY, body) is not None


def read(decoder: msgspec.json.Decoder[T], content: bytes) -> T | None:
    """Decode *content*; None when it is invalid or of another type.

    Halves of characters are no reason to lose the rest, such as the call of a tool.
    """
    try:
        return decoder.decode(content)
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        repaired = with_whole_characters(content)
    if repaired == content:
        return None
    try:
        return decoder.decode(repaired)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def is_given(raw: msgspec.Raw) -> bool:
    """Whether a member is present and not empty; some servers send empty values for all unused members."""
    # Nothing empty is longer than "false".
    return len(raw) > len("false") or bytes(raw) not in _FALSY


LONG_BYTES: Final = 32 * 1024
"""In a shorter document, vectors need not be removed."""
_WINDOW: Final = 2048
_VECTOR_BYTES: Final = 1024
_AFTER_STRING: Final = b" \t\r\n,:]}"


def without_vectors(document: bytes) -> bytes:
    """Return *document* with a 0 in place of what is in each long list of numbers, and in each long string in base64.

    If *document* is valid JSON, so is the result.
    """
    kept: list[bytes] = []
    begin = 0
    for start, end in without_quotes(document, _WINDOW):
        for first, last in _vectors(document, start, end):
            kept += document[begin:first], b"0"
            begin = last
    return b"".join((*kept, document[begin:])) if kept else document


def without_quotes(document: bytes, window: int) -> Iterator[tuple[int, int]]:
    """Yield the spans between two quotes, or between one and an end of *document*, that fill a window of bytes.

    A span of twice the size of *window* always fills one. Linear in the length of *document*.
    """
    begin = at = 0
    while at + window <= len(document):
        # Elsewhere than in a long string or list of numbers, a quote is found after a few bytes.
        if document.find(b'"', at, at + window) >= 0:
            at += window
            continue
        start, end = document.rfind(b'"', begin, at) + 1, document.find(b'"', at)
        begin = at = end if end >= 0 else len(document)
        yield start, at


def _vectors(document: bytes, start: int, end: int) -> Iterable[tuple[int, int]]:
    """Return the spans of the vectors between two quotes, or between one and an end of *document*."""
    if start and document[start] not in _AFTER_STRING:
        # The first quote begins a string, or is escaped in one, and the second must not be escaped.
        is_vector = document.find(b" ", start, end) < 0 and document[end - 1] != _BACKSLASH
        return ((start, end),) if is_vector else ()
    return _lists(document, start, end)


_BACKSLASH: Final = ord("\\")


def _lists(document: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the spans of what is in long lists, which have only numbers and the like: there are no quotes."""
    at = start
    while (closed := document.find(b"]", at, end)) >= 0:
        first = document.rfind(b"[", at, closed) + 1
        if first and closed - first >= _VECTOR_BYTES:
            yield first, closed
        at = closed + 1
