"""Finds how the text begins that a user said last: for a log whose operator wants to see it, and for nothing else."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from nexus.wire.documents import read

MAX_MESSAGES: Final = 50
"""Messages, from the last one back: after the user's may come many of tools."""


def prompt_start(body: bytes, most: int) -> str:
    """Return at most *most* characters of the last user message, the prompt or the input of a JSON *body*.

    Only text is looked at: an image or a file never is. Empty when there is no text; never raises.
    """
    asked = read(_ASKED, body)
    if asked is None:
        return ""
    said = (text for raw in (asked.messages, asked.input, asked.prompt, asked.query) if (text := _last_text(raw)))
    return next(said, "")[:most]


class _Asked(msgspec.Struct):
    messages: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    query: msgspec.Raw = msgspec.Raw()


class _Item(msgspec.Struct):
    """A message, or a part of one."""

    role: Any = "user"
    type: Any = "text"
    text: Any = None
    content: msgspec.Raw = msgspec.Raw()


_ASKED: Final = msgspec.json.Decoder(_Asked)
_TEXT: Final = msgspec.json.Decoder(str)
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ITEM: Final = msgspec.json.Decoder(_Item)
_TEXT_TYPES: Final = frozenset({"text", "input_text", "message"})


def _last_text(raw: msgspec.Raw) -> str:
    """Return the text of *raw*: a string, or the last that has any of a list of strings and messages."""
    if not raw:
        return ""
    if (text := read(_TEXT, bytes(raw))) is not None:
        return text
    items = (read(_ITEMS, bytes(raw)) or [])[-MAX_MESSAGES:]
    return next((text for item in reversed(items) if (text := _said(item))), "")


def _said(raw: msgspec.Raw) -> str:
    if (text := read(_TEXT, bytes(raw))) is not None:
        return text
    item = read(_ITEM, bytes(raw))
    if item is None or item.role != "user":
        return ""
    return _of_type(item) or read(_TEXT, bytes(item.content)) or " ".join(_parts(item.content))


def _parts(content: msgspec.Raw) -> Iterator[str]:
    for raw in read(_ITEMS, bytes(content)) or ():
        part = read(_ITEM, bytes(raw))
        if part is not None and (text := _of_type(part)):
            yield text


def _of_type(item: _Item) -> str:
    return item.text if item.type in _TEXT_TYPES and isinstance(item.text, str) else ""
