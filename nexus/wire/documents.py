"""Decodes JSON of backends, which may be truncated or invalid."""

from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

_ANY: Final = msgspec.json.Decoder(msgspec.Raw)
_FALSY: Final = frozenset({b"", b"null", b'""', b"{}", b"[]", b"false"})


def is_whole(body: bytes) -> bool:
    """Whether *body* is one complete JSON document."""
    return read(_ANY, body) is not None


def read(decoder: msgspec.json.Decoder[T], content: bytes) -> T | None:
    """Decode *content*; None when it is invalid or of another type."""
    try:
        return decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def is_given(raw: msgspec.Raw) -> bool:
    """Whether a member is present and not empty; some servers send empty values for all unused members."""
    # Nothing empty is longer than "false".
    return len(raw) > len("false") or bytes(raw) not in _FALSY


LONG_BYTES: Final = 32 * 1024
"""In a shorter document, lists of numbers need not be removed."""
_NESTED: Final = (b'"', b"[")
_WINDOW: Final = 2048


def without_numbers(document: bytes) -> bytes:
    """Return *document* with an empty list in place of each long list of numbers, such as an embedding.

    If *document* is valid JSON, so is the result: without quotes and brackets, a list has only numbers and the like.
    """
    kept: list[bytes] = []
    begin = at = 0
    while at + _WINDOW <= len(document):
        # Elsewhere than in a long list of numbers, a quote is found after a few bytes.
        if document.find(b'"', at, at + _WINDOW) < 0:
            start, closed = document.rfind(b"[", begin, at + _WINDOW) + 1, document.find(b"]", at)
            is_long = start and closed - start >= _WINDOW // 2
            if is_long and not any(document.find(mark, start, closed) >= 0 for mark in _NESTED):
                kept.append(document[begin:start])
                begin, at = closed, closed - _WINDOW
        at += _WINDOW
    return b"".join((*kept, document[begin:])) if kept else document
