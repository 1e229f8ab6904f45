"""Writes streams as Anthropic's clients read them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final

import msgspec

from nexus.translation.anthropic.answer_out import message_id
from nexus.translation.anthropic.errors import encode_error_event
from nexus.translation.anthropic.reasons import stop_reason_of
from nexus.translation.anthropic.usage import UsageOut, exclusive
from nexus.translation.dialect import AnswerContext
from nexus.translation.events import (
    AnswerEvent,
    End,
    Failure,
    Finish,
    RedactedThinking,
    Signature,
    Start,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    ToolEnd,
    Usage,
)
from nexus.wire.token_estimates import BYTES_PER_TOKEN

PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'

_encode: Final = msgspec.json.Encoder().encode


class StreamOut:
    """One stream. At any time at most one block is open, and the index of the next one is higher by one."""

    __slots__ = ("_context", "_finish", "_has_started", "_index", "_kind", "_sent", "_usage")

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._has_started = False
        self._index = -1
        """Of the block that is open, or of the last one."""
        self._kind = ""
        """The type of the open block; empty if none is."""
        self._sent = 0
        """Characters of the answer, for an estimate if the backend does not count."""
        self._finish = Finish("stop")
        self._usage = Usage()

    def encode(self, events: Iterable[AnswerEvent]) -> bytes:
        methods = self._METHODS
        return b"".join([methods[type(event)](self, event) for event in events])

    def ping(self) -> bytes:
        # Some clients expect the start of the message before anything else.
        return PING if self._has_started else self._start(Start()) + PING

    def _start(self, _event: Start) -> bytes:
        if self._has_started:
            return b""
        self._has_started = True
        context = self._context
        message = _Message(message_id(context), context.model, UsageOut(context.prompt_tokens, 0, 0, 0))
        return b'event: message_start\ndata: {"type":"message_start","message":%b}\n\n' % _encode(message)

    def _thinking(self, event: ThinkingPart) -> bytes:
        opening = b"" if self._kind == "thinking" else self._open("thinking", _THINKING_BLOCK)
        self._sent += len(event.text)
        return opening + _THINKING_DELTA % (self._index, _encode(event.text))

    def _text(self, event: TextPart) -> bytes:
        opening = b"" if self._kind == "text" else self._open("text", _TEXT_BLOCK)
        self._sent += len(event.text)
        return opening + _TEXT_DELTA % (self._index, _encode(event.text))

    def _begin_call(self, event: ToolBegin) -> bytes:
        block = b'{"type":"tool_use","id":%b,"name":%b,"input":{}}' % (_encode(event.id), _encode(event.name))
        return self._open("tool_use", block)

    def _arguments(self, event: ToolArguments) -> bytes:
        self._sent += len(event.text)
        return _ARGUMENTS_DELTA % (self._index, _encode(event.text))

    def _end_call(self, _event: ToolEnd) -> bytes:
        return self._close()

    def _note_finish(self, event: Finish) -> bytes:
        self._finish = event
        return b""

    def _note_usage(self, event: Usage) -> bytes:
        self._usage = event
        return b""

    def _sign(self, event: Signature) -> bytes:
        opening = b"" if self._kind == "thinking" else self._open("thinking", _THINKING_BLOCK)
        return opening + _SIGNATURE_DELTA % (self._index, _encode(event.signature)) + self._close()

    def _redacted(self, _event: RedactedThinking) -> bytes:
        """Write nothing: only the provider itself can read it, and clients take it for that of Anthropic's API."""
        return b""

    def _end(self, _event: End) -> bytes:
        delta = _Delta(*stop_reason_of(self._finish))
        usage = exclusive(self._usage, self._context.prompt_tokens, -(-self._sent // BYTES_PER_TOKEN))
        ending = b'event: message_delta\ndata: {"type":"message_delta","delta":%b,"usage":%b}\n\n'
        return b"%b%b%b" % (self._close(), ending % (_encode(delta), _encode(usage)), _STOP)

    def _fail(self, event: Failure) -> bytes:
        return encode_error_event(event)

    def _open(self, kind: str, block: bytes) -> bytes:
        closing = self._close()
        self._kind = kind
        self._index += 1
        return closing + _BLOCK_START % (self._index, block)

    def _close(self) -> bytes:
        if not self._kind:
            return b""
        self._kind = ""
        return _BLOCK_STOP % self._index

    _METHODS: ClassVar[Mapping[type[AnswerEvent], Callable[[Any, Any], bytes]]] = {
        Start: _start,
        ThinkingPart: _thinking,
        Signature: _sign,
        RedactedThinking: _redacted,
        TextPart: _text,
        ToolBegin: _begin_call,
        ToolArguments: _arguments,
        ToolEnd: _end_call,
        Finish: _note_finish,
        Usage: _note_usage,
        Failure: _fail,
        End: _end,
    }


class _Message(msgspec.Struct):
    id: str
    model: str
    usage: UsageOut
    type: str = "message"
    role: str = "assistant"
    content: tuple[()] = ()
    stop_reason: None = None
    stop_sequence: None = None


class _Delta(msgspec.Struct):
    stop_reason: str
    stop_sequence: str | None


_TEXT_BLOCK: Final = b'{"type":"text","text":""}'
_THINKING_BLOCK: Final = b'{"type":"thinking","thinking":"","signature":""}'
_BLOCK_START: Final = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
)
_BLOCK_STOP: Final = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
_STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_DELTA: Final = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%%d,"delta":{%b":%%b}}\n\n'
_TEXT_DELTA: Final = _DELTA % b'"type":"text_delta","text'
_THINKING_DELTA: Final = _DELTA % b'"type":"thinking_delta","thinking'
_SIGNATURE_DELTA: Final = _DELTA % b'"type":"signature_delta","signature'
_ARGUMENTS_DELTA: Final = _DELTA % b'"type":"input_json_delta","partial_json'
