"""Finds what an error says, wherever its server puts it."""

from typing import Final

import msgspec

from nexus.wire.documents import read
from nexus.wire.errors.presentable import presentable

MAX_LEVELS: Final = 8
MAX_DETAILS: Final = 5
"""Servers built with FastAPI report each member that they refuse."""

_NAMES: Final = ("message", "msg", "detail", "error")
_ANYTHING: Final = msgspec.json.Decoder()


def text_in(body: bytes) -> str:
    """Return what the error in the JSON *body* says; empty if it is none, or says nothing that is known."""
    return text_of(read(_ANYTHING, body))


def text_of(error: object, levels: int = MAX_LEVELS) -> str:
    """Return the same of a decoded *error*, if its text is at most *levels* deep."""
    if isinstance(error, str):
        return presentable(error)
    if levels == 0:
        return ""
    if isinstance(error, list):
        return "; ".join(filter(None, (text_of(detail, levels - 1) for detail in error[:MAX_DETAILS])))
    if not isinstance(error, dict):
        return ""
    text = next(filter(None, (text_of(error.get(name), levels - 1) for name in _NAMES)), "")
    where = error.get("loc")
    if not text or not isinstance(where, list):
        return text
    # FastAPI's path to the member, in which "body" is the whole.
    member = ".".join(str(part) for part in where[:MAX_LEVELS] if isinstance(part, str | int) and part != "body")
    return presentable(f"{member}: {text}") if member else text
