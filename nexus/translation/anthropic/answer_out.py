"""Writes whole answers as Anthropic's clients read them."""

from collections.abc import Iterator, Sequence

import msgspec

from nexus.translation.anthropic.reasons import stop_reason_of
from nexus.translation.anthropic.usage import UsageOut, exclusive
from nexus.translation.dialect import AnswerContext
from nexus.translation.events import (
    AnswerEvent,
    Finish,
    Signature,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    ToolEnd,
    Usage,
)
from nexus.translation.tool_arguments import as_object
from nexus.wire.token_estimates import tokens_of


def encode_answer(events: Sequence[AnswerEvent], context: AnswerContext) -> bytes:
    """Write the message that *events* make, without the encrypted thoughts of others, which no client sends back."""
    blocks = tuple(_blocks(events))
    finish, usage = Finish("stop"), Usage()
    for event in events:
        if isinstance(event, Finish):
            finish = event
        elif isinstance(event, Usage):
            usage = event
    stop_reason, stop_sequence = stop_reason_of(finish)
    answered = sum(tokens_of(_text_of(block)) for block in blocks)
    message = _Message(
        message_id(context),
        context.model,
        blocks,
        stop_reason,
        stop_sequence,
        exclusive(usage, context.prompt_tokens, answered),
    )
    return msgspec.json.encode(message)


def message_id(context: AnswerContext) -> str:
    return f"msg_{context.id}"


class TextOut(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class ThinkingOut(msgspec.Struct, tag_field="type", tag="thinking"):
    thinking: str
    signature: str = ""


class ToolUseOut(msgspec.Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: msgspec.Raw


class _Message(msgspec.Struct, tag_field="type", tag="message"):
    id: str
    model: str
    content: tuple[TextOut | ThinkingOut | ToolUseOut, ...]
    stop_reason: str
    stop_sequence: str | None
    usage: UsageOut
    role: str = "assistant"


def _blocks(events: Sequence[AnswerEvent]) -> Iterator[TextOut | ThinkingOut | ToolUseOut]:
    """Yield one block for each run of events of the same kind; tool calls come one after the other."""
    kind: type[AnswerEvent] | None = None
    texts: list[str] = []
    call = ToolBegin(0)
    for event in events:
        if isinstance(event, TextPart | ThinkingPart):
            if type(event) is not kind:
                yield from _written(kind, texts)
                kind, texts = type(event), []
            texts.append(event.text)
        elif isinstance(event, Signature):
            if kind is not ThinkingPart:
                yield from _written(kind, texts)
                texts = []
            yield ThinkingOut("".join(texts), event.signature)
            kind, texts = None, []
        elif isinstance(event, ToolBegin):
            yield from _written(kind, texts)
            kind, texts, call = ToolBegin, [], event
        elif isinstance(event, ToolArguments):
            texts.append(event.text)
        elif isinstance(event, ToolEnd):
            arguments = as_object("".join(texts))
            yield ToolUseOut(call.id, call.name, msgspec.Raw(arguments.encode(errors="replace")))
            kind, texts = None, []
    yield from _written(kind, texts)


def _written(kind: type[AnswerEvent] | None, texts: list[str]) -> Iterator[TextOut | ThinkingOut]:
    text = "".join(texts)
    if kind is TextPart and text:
        yield TextOut(text)
    elif kind is ThinkingPart and text:
        yield ThinkingOut(text)


def _text_of(block: TextOut | ThinkingOut | ToolUseOut) -> str:
    if isinstance(block, TextOut):
        return block.text
    return block.thinking if isinstance(block, ThinkingOut) else bytes(block.input).decode()
