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
