"""Reads and writes ``data:`` URLs, in which dialects send images and files."""

import binascii
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

SCHEME = "data:"
_BASE64 = ";base64"


class Embedded(NamedTuple):
    """What a ``data:`` URL contains."""

    media_type: str
    """Empty: not given."""
    data: str
    """In base64."""


def embedded_in(url: str) -> Embedded | None:
    """Return what *url* contains; None if it is another URL. Follows RFC 2397."""
    if url[: len(SCHEME)].lower() != SCHEME:
        return None
    head, _, data = url[len(SCHEME) :].partition(",")
    if not head.endswith(_BASE64):
        data = binascii.b2a_base64(unquote_to_bytes(data), newline=False).decode()
    # A media type may have parameters, such as a file's name, which no dialect has a place for.
    return Embedded(head.partition(";")[0], data)


def data_url(media_type: str, data: str) -> str:
    """Return the URL that contains *data*, which is in base64."""
    return f"{SCHEME}{media_type}{_BASE64},{data}"
