"""Heads that differ in nothing but their Content-Length: who has read one has read them all."""

from collections.abc import Sequence
from typing import Final

MOST_DIGITS: Final = 12
"""Of a length that is read here."""

_NAME: Final = b"\r\ncontent-length:"
_END: Final = b"\r\n\r\n"


def head_of(data: bytes, most_bytes: int) -> bytes:
    """Return the head that *data* begins with, its empty line included; empty when it is longer than *most_bytes*."""
    end = data.find(_END, 0, most_bytes)
    return data[: end + len(_END)] if end >= 0 else b""


def is_plain(head: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether *head* has one line for each of *headers*, all of them ended as they should be."""
    lines = len(headers) + 2
    return head.count(b"\r\n") == lines and head.count(b"\n") == lines


def around_length(head: bytes, headers: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, bytes, bytes] | None:
    """Return *head* up to the digits of its length, these digits, and what follows them; None when it has no plain one.

    :param headers: what a parser has found in *head*.
    """
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    at = head.lower().find(_NAME) + len(_NAME)
    if len(lengths) != 1 or at < len(_NAME):
        return None
    (digits,) = lengths
    start = head.find(digits, at)
    stop = start + len(digits)
    if (
        not digits.isdigit()
        or len(digits) > MOST_DIGITS
        or head[at:start].strip(b" ")
        or head[stop : stop + 1] != b"\r"
    ):
        return None
    return head[:start], digits, head[stop:]


def length_between(data: bytes, before: bytes, after: bytes) -> tuple[int, int] | None:
    """Return the length that stands in *data* between *before* and *after*, and where what follows them begins.

    None when *data* does not begin like that.
    """
    if not data.startswith(before):
        return None
    start, behind = len(before), len(after)
    end = data.find(after, start, start + MOST_DIGITS + behind)
    digits = data[start:end] if end > start else b""
    return (int(digits), end + behind) if digits.isdigit() else None
