"""Cuts what is long into pieces, so that each is written when the client takes it, and forgotten then."""

from collections import deque
from typing import Final

PIECE_BYTES: Final = 64 * 1024


def pieces_of(data: bytes) -> deque[bytes]:
    """Return *data* in pieces, which do not keep it."""
    if len(data) <= PIECE_BYTES:
        return deque((data,))
    view = memoryview(data)
    return deque(bytes(view[at : at + PIECE_BYTES]) for at in range(0, len(data), PIECE_BYTES))
