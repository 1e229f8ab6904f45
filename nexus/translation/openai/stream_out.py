"""Writes streams of OpenAI's chat dialect."""

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Final

import msgspec

from nexus.translation.custom_tools import names_of
from nexus.translation.dialect import AnswerContext
from nexus.translation.events import (
    AnswerEvent,
    End,
    Failure,
    Finish,
    Start,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    Usage,
)
from nexus.translation.openai.errors import encode_error
from nexus.translation.openai.usage import usage_out

_DONE: Final = b"data: [DONE]\n\n"
_encode: Final = msgspec.json.Encoder().encode


class ChatStreamEncoder:
    """One stream of chunks, all of which begin alike."""

    __slots__ = ("_calls", "_custom_names", "_delta", "_head", "_is_custom", "_usage", "_wants_usage")

    def __init__(self, context: AnswerContext) -> None:
        self._head = b'data: {"id":"chatcmpl-%b","object":"chat.completion.chunk","created":%d,"model":%b,' % (
            context.id.encode(),
            context.created,
            _encode(context.model),
        )
        self._delta = b'%b"choices":[{"index":0,"delta":{' % self._head
        self._calls = -1
        """The index of the last call: clients count them from 0."""
        self._custom_names = names_of(context)
        self._is_custom = False
        """Whether the last call is one of a tool whose input is plain text."""
        self._usage: Usage | None = None
        self._wants_usage = context.wants_usage

    def encode(self, events: Iterable[AnswerEvent]) -> bytes:
        methods = self._METHODS
        return b"".join([methods[type(event)](self, event) for event in events if type(event) in methods])

    @staticmethod
    def ping() -> bytes:
        # A comment: clients skip it, and no other event means nothing.
        return b": ping\n\n"

    def _start(self, _event: Start) -> bytes:
        return self._chunk(b'"role":"assistant","content":""')

    def _text(self, event: TextPart) -> bytes:
        return self._chunk(b'"content":' + _encode(event.text))

    def _thinking(self, event: ThinkingPart) -> bytes:
        """Return thoughts under both names, as some clients read the one and some the other."""
        text = _encode(event.text)
        return self._chunk(b'"reasoning_content":%b,"reasoning":%b' % (text, text))

    def _begin(self, event: ToolBegin) -> bytes:
        self._calls += 1
        self._is_custom = event.name in self._custom_names
        if self._is_custom:
            return self._chunk(
                b'"tool_calls":[{"index":%d,"id":%b,"type":"custom","custom":{"name":%b,"input":""}}]'
                % (self._calls, _encode(event.id), _encode(event.name))
            )
        return self._chunk(
            b'"tool_calls":[{"index":%d,"id":%b,"type":"function","function":{"name":%b,"arguments":""}}]'
            % (self._calls, _encode(event.id), _encode(event.name))
        )

    def _arguments(self, event: ToolArguments) -> bytes:
        member = b'"custom":{"input"' if self._is_custom else b'"function":{"arguments"'
        return self._chunk(b'"tool_calls":[{"index":%d,%b:%b}}]' % (self._calls, member, _encode(event.text)))

    def _finish(self, event: Finish) -> bytes:
        return b'%b},"finish_reason":"%b"}]}\n\n' % (self._delta, event.reason.encode())

    def _count(self, event: Usage) -> bytes:
        self._usage = event
        return b""

    def _end(self, _event: End) -> bytes:
        usage = usage_out(self._usage) if self._wants_usage else None
        if usage is None:
            return _DONE
        return b'%b"choices":[],"usage":%b}\n\n%b' % (self._head, _encode(usage), _DONE)

    @staticmethod
    def _fail(event: Failure) -> bytes:
        return b"data: %b\n\n%b" % (encode_error(event, ""), _DONE)

    def _chunk(self, delta: bytes) -> bytes:
        return b'%b%b},"finish_reason":null}]}\n\n' % (self._delta, delta)

    _METHODS: ClassVar[Mapping[type[AnswerEvent], Callable[..., bytes]]] = {
        Start: _start,
        TextPart: _text,
        ThinkingPart: _thinking,
        ToolBegin: _begin,
        ToolArguments: _arguments,
        Finish: _finish,
        Usage: _count,
        End: _end,
        Failure: lambda self, event: self._fail(event),
    }
    """Signatures and encrypted thoughts have no place in this dialect, and the end of a call is not said."""
