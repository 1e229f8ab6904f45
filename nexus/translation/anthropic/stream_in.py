"""Reads streams of Anthropic's API."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final

import msgspec

from nexus.translation.anthropic.errors import decode_error, failure_of
from nexus.translation.anthropic.reasons import finish_of
from nexus.translation.anthropic.signatures import marked
from nexus.translation.anthropic.usage import UsageIn, inclusive
from nexus.translation.events import (
    AnswerEvent,
    End,
    RedactedThinking,
    Signature,
    Start,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    ToolEnd,
)
from nexus.wire.documents import read
from nexus.wire.errors.status import UNKNOWN, status_of
from nexus.wire.streams.event import Event


class StreamIn:
    """One stream. Blocks of tools that the API runs itself are skipped: their results are in the text."""

    __slots__ = ("_calls", "_skipped", "_usage")

    def __init__(self) -> None:
        self._calls: dict[int, str] = {}
        """The open calls by the index of their block, with arguments that came at once; empty if parts followed."""
        self._skipped: set[int] = set()
        """The indices of blocks that are no part of an answer in other dialects."""
        self._usage = UsageIn()

    def decode(self, event: Event) -> Iterable[AnswerEvent]:
        found = read(_EVENT, event.content)
        if found is None:
            return () if event.name != b"error" else (decode_error(UNKNOWN, event.content),)
        method = self._METHODS.get(found.type or event.name.decode(errors="replace"))
        return () if method is None else method(self, found)

    def _delta(self, event: "_Event") -> Iterable[AnswerEvent]:
        delta = event.delta
        if delta.text:
            return (TextPart(delta.text),)
        if delta.partial_json:
            if event.index in self._skipped:
                return ()
            if self._calls.get(event.index):
                self._calls[event.index] = ""
            return (ToolArguments(event.index, delta.partial_json),)
        if delta.thinking:
            return (ThinkingPart(delta.thinking),)
        return (Signature(marked(delta.signature)),) if delta.signature else ()

    def _message_start(self, event: "_Event") -> Iterable[AnswerEvent]:
        message = event.message
        self._usage = message.usage or UsageIn()
        return (Start(message.id or "", message.model or ""), inclusive(self._usage))

    def _block_start(self, event: "_Event") -> Iterable[AnswerEvent]:
        block = event.content_block
        if block.type == "tool_use":
            given = bytes(block.input)
            self._calls[event.index] = "" if given in _NO_INPUT else given.decode(errors="replace")
            return (ToolBegin(event.index, block.id or "", block.name or ""),)
        if block.type not in _PARTS:
            self._skipped.add(event.index)
        return tuple(parts_of(block))

    def _block_stop(self, event: "_Event") -> Iterable[AnswerEvent]:
        arguments = self._calls.pop(event.index, None)
        if arguments is None:
            return ()
        end = ToolEnd(event.index)
        return (ToolArguments(event.index, arguments), end) if arguments else (end,)

    def _message_delta(self, event: "_Event") -> Iterable[AnswerEvent]:
        delta = event.delta
        if event.usage is not None:
            self._usage = self._usage.updated(event.usage)
        usage = inclusive(self._usage)
        return (finish_of(delta.stop_reason, delta.stop_sequence), usage) if delta.stop_reason else (usage,)

    def _message_stop(self, _event: "_Event") -> Iterable[AnswerEvent]:
        return (End(),)

    def _error(self, event: "_Event") -> Iterable[AnswerEvent]:
        return (failure_of(status_of(event.error), event.error),)

    _METHODS: ClassVar[Mapping[str, Callable[[Any, "_Event"], Iterable[AnswerEvent]]]] = {
        "content_block_delta": _delta,
        "message_start": _message_start,
        "content_block_start": _block_start,
        "content_block_stop": _block_stop,
        "message_delta": _message_delta,
        "message_stop": _message_stop,
        "error": _error,
    }


class BlockIn(msgspec.Struct, frozen=True):
    """A block of an answer, of any type."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw()


def parts_of(block: BlockIn) -> Iterable[AnswerEvent]:
    """Yield what is in *block*, which is no call; nothing if it belongs to a tool that the API runs itself."""
    if block.type == "text" and block.text:
        yield TextPart(block.text)
    elif block.type == "thinking":
        if block.thinking:
            yield ThinkingPart(block.thinking)
        if block.signature:
            yield Signature(marked(block.signature))
    elif block.type == "redacted_thinking" and block.data:
        yield RedactedThinking(marked(block.data))


class _Delta(msgspec.Struct, frozen=True, gc=False):
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Message(msgspec.Struct, frozen=True):
    id: str | None = None
    model: str | None = None
    usage: UsageIn | None = None


_NO_DELTA: Final = _Delta()
_NO_BLOCK: Final = BlockIn()
_NO_MESSAGE: Final = _Message()


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    delta: _Delta = _NO_DELTA
    content_block: BlockIn = _NO_BLOCK
    message: _Message = _NO_MESSAGE
    usage: UsageIn | None = None
    error: Any = None


_EVENT: Final = msgspec.json.Decoder(_Event)
_PARTS: Final = frozenset({"text", "thinking", "redacted_thinking"})
_NO_INPUT: Final = (b"", b"{}", b"null")
"""What the input of a block is at its start, before its parts come."""
