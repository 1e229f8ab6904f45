"""Extracts the model's text from answers, including thoughts and tool calls."""

from typing import Any, Final

import msgspec

from nexus.wire.documents import read


def text_in_event(content: bytes) -> str:
    """Return the text in one event of a stream."""
    event = read(_EVENT, content)
    if event is None or event.delta is None:
        return ""
    delta = event.delta
    return "".join(value for value in (delta.text, delta.thinking, delta.partial_json) if isinstance(value, str))


def text_of(body: bytes) -> str:
    """Return the text in a whole message; empty if *body* is none."""
    message = read(_MESSAGE, body)
    if message is None:
        return ""
    return "".join(
        value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for block in message.content
        for value in (block.text, block.thinking, block.input)
        if value is not None
    )


class _Delta(msgspec.Struct, gc=False):
    text: Any = None
    thinking: Any = None
    partial_json: Any = None


class _Event(msgspec.Struct):
    delta: _Delta | None = None


class _Block(msgspec.Struct):
    text: Any = None
    thinking: Any = None
    input: Any = None


class _Message(msgspec.Struct):
    content: list[_Block] = []


_EVENT: Final = msgspec.json.Decoder(_Event)
_MESSAGE: Final = msgspec.json.Decoder(_Message)
