"""Reads whole answers of Anthropic's API."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from nexus.translation.anthropic.reasons import finish_of
from nexus.translation.anthropic.stream_in import BlockIn, parts_of
from nexus.translation.anthropic.usage import UsageIn, inclusive
from nexus.translation.events import AnswerEvent, End, Start, ToolArguments, ToolBegin, ToolEnd
from nexus.wire.documents import read


def decode_answer(body: bytes) -> Sequence[AnswerEvent]:
    """Return the events of a message. :raises ValueError: *body* is none."""
    message = read(_MESSAGE, body)
    if message is None:
        raise ValueError("the answer is no message of Anthropic's API")
    return tuple(_events(message))


class _Message(msgspec.Struct):
    content: list[BlockIn]
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: UsageIn | None = None


_MESSAGE: Final = msgspec.json.Decoder(_Message)


def _events(message: _Message) -> Iterator[AnswerEvent]:
    yield Start(message.id or "", message.model or "")
    for index, block in enumerate(message.content):
        if block.type == "tool_use":
            yield ToolBegin(index, block.id or "", block.name or "")
            yield ToolArguments(index, bytes(block.input).decode(errors="replace"))
            yield ToolEnd(index)
        else:
            yield from parts_of(block)
    yield finish_of(message.stop_reason or "end_turn", message.stop_sequence)
    if message.usage is not None:
        yield inclusive(message.usage)
    yield End()
