"""Reads Ollama's answers: one document, or a stream of lines of which each has whole tool calls."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from nexus.translation.events import (
    AnswerEvent,
    End,
    Finish,
    Start,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    ToolEnd,
    Usage,
)
from nexus.translation.ollama.errors import failure_in
from nexus.wire.documents import is_given, read
from nexus.wire.streams.event import Event


class LineDecoder:
    """One stream."""

    __slots__ = ("_calls", "_has_started")

    def __init__(self) -> None:
        self._calls = 0
        self._has_started = False

    def decode(self, event: Event) -> Iterable[AnswerEvent]:
        line = read(_LINE, event.content)
        if line is None:
            return ()
        message = line.message
        # The usual line has a token of text, or of thoughts.
        if self._has_started and message is not None and not line.done and not message.tool_calls and not line.error:
            text = message.content
            if text and not message.thinking:
                return (TextPart(text),)
            if message.thinking and not text:
                return (ThinkingPart(message.thinking),)
        return list(self._events(line, event.content))

    def _events(self, line: "_Line", content: bytes) -> Iterator[AnswerEvent]:
        if is_given(line.error):
            yield failure_in(content)
            return
        if not self._has_started:
            self._has_started = True
            yield Start(model=line.model or "")
        if line.message is not None:
            yield from self._parts(line.message)
        if line.done:
            yield Finish("length" if line.done_reason == "length" else "stop")
            # Servers leave the prompt out, or count 0, if all of it was in their cache.
            yield Usage(_count(line.prompt_eval_count) or None, _count(line.eval_count))
            yield End()

    def _parts(self, message: "_Message") -> Iterator[AnswerEvent]:
        if message.thinking:
            yield ThinkingPart(message.thinking)
        if message.content:
            yield TextPart(message.content)
        for call in message.tool_calls or ():
            # Their own index counts from 0 again in each line of some versions.
            index = self._calls
            self._calls += 1
            yield ToolBegin(index, call.id or "", call.function.name)
            yield ToolArguments(index, _object(call.function.arguments))
            yield ToolEnd(index)


def decode_answer(body: bytes) -> Sequence[AnswerEvent]:
    """Read a whole answer. :raises ValueError: it is none."""
    line = read(_LINE, body)
    if line is None or line.message is None or not line.done or is_given(line.error):
        raise ValueError("the backend's answer is no chat of Ollama")
    return list(LineDecoder().decode(Event(b"", body)))


class _Function(msgspec.Struct):
    name: str
    arguments: msgspec.Raw = msgspec.Raw()


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(msgspec.Struct):
    model: str | None = None
    message: _Message | None = None
    done: bool = False
    done_reason: object = None
    prompt_eval_count: object = None
    eval_count: object = None
    error: msgspec.Raw = msgspec.Raw()


_LINE: Final = msgspec.json.Decoder(_Line)
_TEXT: Final = msgspec.json.Decoder(str)


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _object(arguments: msgspec.Raw) -> str:
    """Return the text of *arguments*, which some servers send as a string."""
    raw = bytes(arguments)
    if raw.startswith(b'"'):
        return read(_TEXT, raw) or ""
    return raw.decode(errors="replace") if is_given(arguments) else ""
