"""Reads JSON that backends sent, which may be cut, broken or something else."""

from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

_ANY: Final = msgspec.json.Decoder(msgspec.Raw)
_FALSY: Final = frozenset({b"", b"null", b'""', b"{}", b"[]", b"false"})


def is_whole(body: bytes) -> bool:
    """Whether *body* is one JSON document, up to its end."""
    return read(_ANY, body) is not None


def read(decoder: msgspec.json.Decoder[T], content: bytes) -> T | None:
    """Decode *content*; None when it is not what *decoder* reads."""
    try:
        return decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def is_given(raw: msgspec.Raw) -> bool:
    """Whether a member is there and says something; some servers send all that they know, empty."""
    # Longer ones need no look: nothing empty is longer than false.
    return len(raw) > len("false") or bytes(raw) not in _FALSY
