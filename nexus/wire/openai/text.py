"""Extracts the model's text from answers, including thoughts and tool calls."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from nexus.wire.documents import read


def text_in_chunk(content: bytes) -> str:
    """Return the text in one chunk of a chat or text completion."""
    chunk = read(_CHUNK, content)
    return "".join(text for choice in chunk.choices for text in choice.texts()) if chunk is not None else ""


def text_in_event(content: bytes) -> str:
    """Return the text in one event of the Responses API, or of a transcript."""
    event = read(_EVENT, content)
    if event is None or not event.type.endswith(".delta") or "audio." in event.type:
        return ""
    return event.delta if isinstance(event.delta, str) else ""


def text_of(body: bytes) -> str:
    """Return the text in a whole answer; empty if *body* is none."""
    answer = read(_DOCUMENT, body)
    if answer is None:
        return ""
    texts = [text for choice in answer.choices for text in choice.texts()]
    return "".join([*texts, *(text for item in answer.output for text in item.texts())])


class _Function(msgspec.Struct, frozen=True, gc=False):
    name: Any = None
    arguments: Any = None


class _ToolCall(msgspec.Struct):
    function: _Function = _Function()


class _Message(msgspec.Struct):
    content: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    refusal: Any = None
    tool_calls: list[_ToolCall] | None = None

    def texts(self) -> Iterator[str]:
        for value in (self.content, self.reasoning_content or self.reasoning, self.refusal):
            if isinstance(value, str):
                yield value
        for call in self.tool_calls or ():
            yield from _strings(call.function.name, call.function.arguments)


class _Choice(msgspec.Struct):
    delta: _Message | None = None
    """In a chunk of a chat."""
    message: _Message | None = None
    """In a whole chat completion."""
    text: Any = None
    """Of a text completion."""

    def texts(self) -> Iterator[str]:
        for message in (self.delta, self.message):
            if message is not None:
                yield from message.texts()
        yield from _strings(self.text)


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []


class _Event(msgspec.Struct):
    type: str = ""
    delta: Any = None


class _ContentPart(msgspec.Struct, gc=False):
    text: Any = None


class _Item(msgspec.Struct):
    content: list[_ContentPart] | None = None
    arguments: Any = None

    def texts(self) -> Iterator[str]:
        yield from _strings(*(part.text for part in self.content or ()), self.arguments)


class _Document(msgspec.Struct):
    choices: list[_Choice] = []
    output: list[_Item] = []
    """Of the Responses API."""


def _strings(*values: Any) -> Iterator[str]:
    return (value for value in values if isinstance(value, str))


_CHUNK: Final = msgspec.json.Decoder(_Chunk)
_EVENT: Final = msgspec.json.Decoder(_Event)
_DOCUMENT: Final = msgspec.json.Decoder(_Document)
