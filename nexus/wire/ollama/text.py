"""Extracts the model's text from answers, including thoughts and tool calls."""

from typing import Any, Final

import msgspec

from nexus.wire.documents import read


def text_of(content: bytes) -> str:
    """Return the text in a whole answer or in one line of a stream."""
    said = read(_DECODER, content)
    if said is None:
        return ""
    values = [said.response, said.thinking]
    if said.message is not None:
        values += [said.message.content, said.message.thinking]
    texts = [value for value in values if isinstance(value, str)]
    calls = said.message.tool_calls if said.message is not None else b""
    return "".join(texts) + bytes(calls).decode(errors="replace")


class _Message(msgspec.Struct):
    content: Any = None
    thinking: Any = None
    tool_calls: msgspec.Raw = msgspec.Raw()


class _Line(msgspec.Struct):
    message: _Message | None = None
    response: Any = None
    thinking: Any = None


_DECODER: Final = msgspec.json.Decoder(_Line)
