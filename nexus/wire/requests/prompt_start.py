"""Finds the beginning of the last user message, for logs that are configured to show it."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from nexus.wire.documents import read

MAX_MESSAGES: Final = 50
"""Messages that are searched, from the last one: the user's may precede many of tools."""


def prompt_start(body: bytes, max_characters: int) -> str:
    """Return at most *max_characters* of the last user message, the prompt or the input of a JSON *body*.

    Empty when there is no text: images and files are ignored. Never raises.
    """
    fields = read(_BODY, body)
    if fields is None:
        return ""
    texts = (text for raw in (fields.messages, fields.input, fields.prompt, fields.query) if (text := _last_text(raw)))
    return next(texts, "")[:max_characters]


class _Body(msgspec.Struct):
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


_BODY: Final = msgspec.json.Decoder(_Body)
_TEXT: Final = msgspec.json.Decoder(str)
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ITEM: Final = msgspec.json.Decoder(_Item)
_TEXT_TYPES: Final = frozenset({"text", "input_text", "message"})


def _last_text(raw: msgspec.Raw) -> str:
    """Return the text of *raw*: a string, or the last text in a list of strings and messages."""
    if not raw:
        return ""
    if (text := read(_TEXT, bytes(raw))) is not None:
        return text
    items = (read(_ITEMS, bytes(raw)) or [])[-MAX_MESSAGES:]
    return next((text for item in reversed(items) if (text := _user_text(item))), "")


def _user_text(raw: msgspec.Raw) -> str:
    if (text := read(_TEXT, bytes(raw))) is not None:
        return text
    item = read(_ITEM, bytes(raw))
    if item is None or item.role != "user":
        return ""
    return _text_of(item) or read(_TEXT, bytes(item.content)) or " ".join(_parts(item.content))


def _parts(content: msgspec.Raw) -> Iterator[str]:
    for raw in read(_ITEMS, bytes(content)) or ():
        part = read(_ITEM, bytes(raw))
        if part is not None and (text := _text_of(part)):
            yield text


def _text_of(item: _Item) -> str:
    return item.text if item.type in _TEXT_TYPES and isinstance(item.text, str) else ""
