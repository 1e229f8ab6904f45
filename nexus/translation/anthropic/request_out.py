"""Writes requests to Anthropic's API."""

from typing import Final, Literal

import msgspec

from nexus.translation.anthropic.abilities import Abilities, abilities_of
from nexus.translation.anthropic.content_out import MessageOut, TextOut, is_said, split
from nexus.translation.anthropic.thinking import ThinkingOut, thinking_of
from nexus.translation.chat import ChatRequest, JsonFormat, OneTool, Tool
from nexus.translation.dialect import EncodedRequest, Target

JSON_ONLY: Final = "Answer with one JSON object and nothing else."
"""Asks for any JSON object, for which the API has no format."""

ANY_OBJECT: Final = msgspec.Raw(b'{"type":"object"}')

UNSAID: Final = {
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "cache_key": "prompt_cache_key",
    "keep_alive": "keep_alive",
    "verbosity": "verbosity",
}
"""Fields of a request that have no place, with the names that most dialects give them."""


def encode_request(chat: ChatRequest, target: Target) -> EncodedRequest:
    """Write *chat*; nothing that it may ask for changes its meaning by being left out."""
    lost = {name for field, name in UNSAID.items() if getattr(chat, field) is not None}
    abilities = abilities_of(target.model)
    max_tokens = chat.max_tokens or _default_limit(target, abilities)
    system, messages = split(chat.messages, lost)
    thinking = thinking_of(chat, abilities, max_tokens, lost)
    format_ = _format_of(chat.format, system, lost)
    if not all(map(is_said, chat.stop)):
        # The API refuses white space alone.
        lost.add("stop")
    body = _Body(
        model=target.model,
        max_tokens=max_tokens,
        system=system,
        messages=messages,
        stream=chat.is_stream,
        tools=[_tool(tool) for tool in chat.tools],
        tool_choice=_choice_of(chat),
        stop_sequences=[text for text in chat.stop if is_said(text)],
        thinking=thinking.thinking,
        output_config=_OutputConfig(thinking.effort, format_) if thinking.effort or format_ else None,
        metadata=_Metadata(chat.user) if chat.user else None,
    )
    thinks = thinking.thinking is not None and thinking.thinking.type != "disabled"
    _sample(body, chat, abilities, lost, thinks=thinks)
    return EncodedRequest(msgspec.json.encode(body), tuple(sorted(lost)))


def _default_limit(target: Target, abilities: Abilities) -> int:
    """Return the limit of an answer for which the client set none: servers refuse one that exceeds the context."""
    limit = target.max_tokens or abilities.max_tokens
    return limit if target.room_tokens is None else min(limit, target.room_tokens)


class _ToolOut(msgspec.Struct, omit_defaults=True):
    name: str
    input_schema: msgspec.Raw
    description: str = ""
    strict: bool = False


class _ChoiceOut(msgspec.Struct, omit_defaults=True):
    type: str
    name: str = ""
    disable_parallel_tool_use: bool = False


class _FormatOut(msgspec.Struct):
    schema: msgspec.Raw
    type: Literal["json_schema"] = "json_schema"


class _OutputConfig(msgspec.Struct, omit_defaults=True):
    effort: str | None = None
    format: _FormatOut | None = None


class _Metadata(msgspec.Struct):
    user_id: str


class _Body(msgspec.Struct, omit_defaults=True):
    """In the order in which the API's cache reads them: tools, system, messages."""

    model: str
    max_tokens: int
    messages: list[MessageOut]
    tools: list[_ToolOut] = []
    system: list[TextOut] = []
    stream: bool = False
    tool_choice: _ChoiceOut | None = None
    stop_sequences: list[str] = []
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    thinking: ThinkingOut | None = None
    output_config: _OutputConfig | None = None
    metadata: _Metadata | None = None


def _tool(tool: Tool) -> _ToolOut:
    return _ToolOut(tool.name, tool.schema or ANY_OBJECT, tool.description, bool(tool.is_strict))


def _choice_of(chat: ChatRequest) -> _ChoiceOut | None:
    if not chat.tools:
        return None
    is_single = chat.parallel_tools is False
    match chat.tool_choice:
        case OneTool(name):
            return _ChoiceOut("tool", name, is_single)
        case "required":
            return _ChoiceOut("any", disable_parallel_tool_use=is_single)
        case "none":
            return _ChoiceOut("none")
        case "auto":
            return _ChoiceOut("auto", disable_parallel_tool_use=is_single)
        case None:
            return _ChoiceOut("auto", disable_parallel_tool_use=True) if is_single else None


def _format_of(format_: JsonFormat | None, system: list[TextOut], lost: set[str]) -> _FormatOut | None:
    if format_ is None:
        return None
    if format_.schema is not None:
        return _FormatOut(format_.schema)
    # It is asked for in words, so nothing enforces it.
    system.append(TextOut(JSON_ONLY))
    lost.add("response_format")
    return None


def _sample(body: _Body, chat: ChatRequest, abilities: Abilities, lost: set[str], *, thinks: bool) -> None:
    """Set how the model samples, within what the API accepts; the rest is lost.

    The highest temperature is 1. Newer models refuse it together with ``top_p``, and the newest any of these; with
    thinking there are only the defaults.
    """
    if not thinks and abilities.takes_sampling:
        body.top_k = chat.top_k if _limits(chat.top_k) else None
        body.temperature = None if chat.temperature is None else min(chat.temperature, MAX_TEMPERATURE)
        body.top_p = chat.top_p if chat.temperature is None else None
    # What is the default anyway is not lost.
    lost.update(name for name, default in _DEFAULTS if getattr(chat, name) not in (None, default, getattr(body, name)))
    if _limits(chat.top_k) and body.top_k is None:
        lost.add("top_k")


def _limits(top_k: int | None) -> bool:
    """Whether *top_k* says anything: 0 and -1 stand for all tokens, which is the default here."""
    return top_k is not None and top_k > 0


MAX_TEMPERATURE: Final = 1.0
_DEFAULTS: Final = (("temperature", 1.0), ("top_p", 1.0))
