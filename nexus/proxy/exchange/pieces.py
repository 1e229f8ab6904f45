"""Cuts a long reply into pieces; each is written when the client takes it, and freed then."""

from collections import deque
from typing import Final

PIECE_BYTES: Final = 64 * 1024


def pieces_of(data: bytes) -> deque[bytes]:
    """Return *data* in pieces that do not keep it in memory."""
    if len(data) <= PIECE_BYTES:
        return deque((data,))
    view = memoryview(data)
    return deque(bytes(view[at : at + PIECE_BYTES]) for at in range(0, len(data), PIECE_BYTES))
