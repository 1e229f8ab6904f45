"""Reads Anthropic's requests."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from nexus.errors import RequestError
from nexus.translation.anthropic.content import NOTHING, Content, is_given, parts_of, system_parts
from nexus.translation.anthropic.tools import ToolChoiceIn, ToolIn, choice_of, tools_of
from nexus.translation.chat import ChatRequest, JsonFormat, Message, Reasoning, Role
from nexus.translation.reading import decode_body, stops_in
from nexus.translation.refusals import not_translatable
from nexus.wire.documents import read

Number = int | float | None
"""Some clients write whole numbers with a fraction of zero."""


def decode_request(body: bytes) -> ChatRequest:
    """:raises RequestError: it is invalid, or asks for what only Anthropic's API can do."""
    fields = decode_body(_REQUEST, body)
    lost = {name for name, value in decode_body(_MEMBERS, body).items() if name not in _READ and is_given(value)}
    if "inference_geo" in lost:
        raise not_translatable("inference_geo", "leave it out, or name a model of Anthropic's API")
    tools = tools_of(fields.tools or (), lost)
    choice = fields.tool_choice
    return ChatRequest(
        model=fields.model or "",
        messages=tuple(_messages(fields, lost)),
        is_stream=bool(fields.stream),
        wants_usage=True,
        tools=tools,
        tool_choice=choice_of(choice, tools),
        parallel_tools=False if choice is not None and choice.disable_parallel_tool_use and tools else None,
        max_tokens=_whole(fields.max_tokens),
        temperature=fields.temperature,
        top_p=fields.top_p,
        top_k=_whole(fields.top_k),
        stop=stops_in(fields.stop_sequences),
        format=_format_of(fields),
        reasoning=_reasoning_of(fields, lost),
        user=_user_of(fields, lost),
        lost=tuple(sorted(lost)),
    )


class _Message(msgspec.Struct):
    role: str | None = None
    content: Content = None


class _Thinking(msgspec.Struct, gc=False):
    type: str | None = None
    budget_tokens: Number = None
    display: str | None = None


class _Request(msgspec.Struct):
    model: str | None = None
    messages: list[_Message] | None = None
    system: Content = None
    stream: bool | None = None
    tools: list[ToolIn] | None = None
    tool_choice: ToolChoiceIn | None = None
    max_tokens: Number = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Number = None
    stop_sequences: list[str] | None = None
    thinking: _Thinking | None = None
    output_config: dict[str, msgspec.Raw] | None = None
    output_format: msgspec.Raw = NOTHING
    """The older place of the format in ``output_config``."""
    metadata: dict[str, msgspec.Raw] | None = None


class _Format(msgspec.Struct):
    type: str | None = None
    schema: msgspec.Raw = NOTHING


_REQUEST: Final = msgspec.json.Decoder(_Request)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_FORMAT: Final = msgspec.json.Decoder(_Format)
_STRING: Final = msgspec.json.Decoder(str)
_READ: Final = frozenset(_Request.__struct_fields__)

_ROLES: Final[Mapping[str | None, Role]] = {"user": "user", "assistant": "assistant", "system": "system"}


def _messages(fields: _Request, lost: set[str]) -> Iterable[Message]:
    if system := system_parts(fields.system, lost):
        yield Message("system", system)
    for message in fields.messages or ():
        role = _ROLES.get(message.role)
        if role is None:
            raise RequestError(
                "invalid_value", "'messages': a role must be user, assistant or system", param="messages"
            )
        if parts := parts_of(message.content, lost):
            yield Message(role, parts)


def _whole(number: Number) -> int | None:
    return None if number is None else int(number)


def _format_of(fields: _Request) -> JsonFormat | None:
    for raw in ((fields.output_config or {}).get("format", NOTHING), fields.output_format):
        found = read(_FORMAT, bytes(raw)) if is_given(raw) else None
        if found is not None and found.type == "json_schema":
            return JsonFormat(found.schema if is_given(found.schema) else None)
    return None


_IS_ON: Final[Mapping[str | None, bool]] = {"enabled": True, "adaptive": True, "disabled": False}


def _reasoning_of(fields: _Request, lost: set[str]) -> Reasoning:
    config = fields.output_config or {}
    lost.update(f"output_config.{name}" for name in config.keys() - {"effort", "format"} if is_given(config[name]))
    effort = read(_STRING, bytes(config.get("effort", NOTHING)))
    thinking = fields.thinking
    if thinking is None:
        return Reasoning(effort=effort)
    is_on = _IS_ON.get(thinking.type)
    if is_on is None:
        lost.add("thinking.type")
    if thinking.display not in (None, "summarized"):
        lost.add("thinking.display")
    return Reasoning(is_on, effort, _whole(thinking.budget_tokens) if is_on else None)


def _user_of(fields: _Request, lost: set[str]) -> str | None:
    metadata = fields.metadata or {}
    lost.update(f"metadata.{name}" for name in metadata.keys() - {"user_id"} if is_given(metadata[name]))
    return read(_STRING, bytes(metadata.get("user_id", NOTHING))) or None
