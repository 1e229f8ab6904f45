"""Writes whole answers of OpenAI's chat dialect."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from nexus.translation.custom_tools import names_of
from nexus.translation.dialect import AnswerContext
from nexus.translation.events import (
    AnswerEvent,
    Finish,
    TextPart,
    ThinkingPart,
    ToolArguments,
    ToolBegin,
    Usage,
)
from nexus.translation.openai.usage import WrittenUsage, usage_out


class _Function(msgspec.Struct):
    name: str
    arguments: str


class _Call(msgspec.Struct):
    id: str
    function: _Function
    type: Literal["function"] = "function"


class _Custom(msgspec.Struct):
    name: str
    input: str


class _CustomCall(msgspec.Struct):
    id: str
    custom: _Custom
    type: Literal["custom"] = "custom"


class _Message(msgspec.Struct):
    role: str
    content: str | None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[_Call | _CustomCall] | UnsetType = UNSET


class _Choice(msgspec.Struct):
    index: int
    message: _Message
    logprobs: None
    finish_reason: str


class _Completion(msgspec.Struct):
    id: str
    object: str
    created: int
    model: str
    choices: list[_Choice]
    usage: WrittenUsage | UnsetType = UNSET


def encode_answer(events: Sequence[AnswerEvent], context: AnswerContext) -> bytes:
    text = "".join([event.text for event in events if type(event) is TextPart])
    thoughts = "".join([event.text for event in events if type(event) is ThinkingPart])
    calls = _calls(events, names_of(context))
    finish = next((event for event in events if type(event) is Finish), None)
    usage = usage_out(next((event for event in reversed(events) if type(event) is Usage), None))
    message = _Message(
        "assistant",
        # As OpenAI's own API does, where a call stands in place of a text.
        content=text if text or not calls else None,
        reasoning_content=thoughts or UNSET,
        reasoning=thoughts or UNSET,
        tool_calls=calls or UNSET,
    )
    choice = _Choice(0, message, logprobs=None, finish_reason=finish.reason if finish else "stop")
    return msgspec.json.encode(
        _Completion(
            id=f"chatcmpl-{context.id}",
            object="chat.completion",
            created=context.created,
            model=context.model,
            choices=[choice],
            usage=UNSET if usage is None else usage,
        )
    )


def _calls(events: Sequence[AnswerEvent], custom_names: frozenset[str]) -> list[_Call | _CustomCall]:
    begun: list[ToolBegin] = []
    texts: list[list[str]] = []
    for event in events:
        if type(event) is ToolBegin:
            begun.append(event)
            texts.append([])
        elif type(event) is ToolArguments:
            texts[-1].append(event.text)
    return [
        _CustomCall(call.id, _Custom(call.name, "".join(text)))
        if call.name in custom_names
        else _Call(call.id, _Function(call.name, "".join(text)))
        for call, text in zip(begun, texts, strict=True)
    ]
