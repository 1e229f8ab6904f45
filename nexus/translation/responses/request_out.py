"""Writes requests to backends with the Responses API."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from nexus.translation.chat import ChatRequest, JsonFormat, OneTool, Reasoning, Tool, ToolChoice
from nexus.translation.dialect import EncodedRequest, Target
from nexus.translation.quirks import Quirks
from nexus.translation.refusals import not_translatable
from nexus.translation.responses.items_out import Items
from nexus.wire.documents import read

_EMPTY_SCHEMA: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_FORMAT_NAME: Final = "answer"
_encode: Final = msgspec.json.Encoder().encode


class _Tool(msgspec.Struct, omit_defaults=True):
    type: str
    name: str
    description: str = ""
    parameters: msgspec.Raw | None = None
    strict: bool | None = None
    format: "msgspec.Raw | _Grammar | None" = None


class _Grammar(msgspec.Struct):
    type: str
    syntax: str
    definition: str


class _Choice(msgspec.Struct):
    type: str
    name: str


class _Format(msgspec.Struct, omit_defaults=True):
    type: str
    name: str = ""
    schema: msgspec.Raw | None = None
    strict: bool | None = None


class _Text(msgspec.Struct, omit_defaults=True):
    format: _Format | None = None
    verbosity: str | None = None


class _Reasoning(msgspec.Struct, omit_defaults=True):
    effort: str | None = None
    summary: str | None = None


class _Request(msgspec.Struct, omit_defaults=True):
    model: str
    input: list[Any]
    store: bool
    instructions: str = ""
    stream: bool = False
    include: tuple[str, ...] = ()
    tools: list[_Tool] = []
    tool_choice: str | _Choice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    user: str | None = None
    prompt_cache_key: str | None = None


_MIN_OUTPUT_TOKENS: Final = 16
"""OpenAI's API refuses less."""


def encode_request(chat: ChatRequest, target: Target) -> EncodedRequest:
    """Return *chat* as one request that keeps nothing on the server. :raises RequestError: it has stop sequences."""
    if chat.stop:
        raise not_translatable("stop", "leave it out, and cut the answer")
    items = Items(chat.messages, target.quirks.max_call_id_characters)
    request = _Request(
        model=target.model,
        instructions=items.instructions,
        input=items.items,
        store=False,
        stream=chat.is_stream,
        tools=[_tool(tool) for tool in chat.tools],
        tool_choice=_choice(chat.tool_choice, chat.tools) if chat.tools else None,
        parallel_tool_calls=chat.parallel_tools if chat.tools else None,
        max_output_tokens=None if chat.max_tokens is None else max(chat.max_tokens, _MIN_OUTPUT_TOKENS),
        temperature=chat.temperature,
        top_p=chat.top_p,
        text=_text(chat),
        reasoning=_reasoning(chat.reasoning, target.quirks),
        user=chat.user,
        prompt_cache_key=chat.cache_key,
    )
    lost = {*_never_said(chat), *items.lost}
    if request.reasoning is None and chat.reasoning != Reasoning():
        lost.add("reasoning_effort")
    if request.reasoning is not None and request.reasoning.effort != "none":
        # Without it, thoughts could not be sent back, as the server keeps none. Models that do not think refuse it.
        request.include = ("reasoning.encrypted_content",)
    return EncodedRequest(_encode(request), tuple(sorted(lost)))


_NEVER_SAID: Final = ("top_k", "seed", "presence_penalty", "frequency_penalty", "keep_alive")


def _never_said(chat: ChatRequest) -> Iterator[str]:
    if chat.max_tokens is not None and chat.max_tokens < _MIN_OUTPUT_TOKENS:
        yield "max_tokens"
    for name in _NEVER_SAID:
        if getattr(chat, name) not in (None, 0):
            yield name


class _Definition(msgspec.Struct):
    type: str | None = None
    syntax: str | None = None
    definition: str | None = None
    grammar: "_Definition | None" = None
    """Where the chat API has these members."""


_DEFINITION: Final = msgspec.json.Decoder(_Definition)


def _tool(tool: Tool) -> _Tool:
    if tool.kind == "custom":
        return _Tool("custom", tool.name, tool.description, format=_grammar(tool))
    # The servers' default is true, that of other APIs is false.
    return _Tool("function", tool.name, tool.description, tool.schema or _EMPTY_SCHEMA, bool(tool.is_strict))


def _grammar(tool: Tool) -> msgspec.Raw | _Grammar | None:
    found = None if tool.grammar is None else read(_DEFINITION, bytes(tool.grammar))
    if found is None or found.grammar is None:
        return tool.grammar
    return _Grammar("grammar", found.grammar.syntax or "", found.grammar.definition or "")


def _choice(choice: ToolChoice | None, tools: tuple[Tool, ...]) -> str | _Choice | None:
    if not isinstance(choice, OneTool):
        return choice
    kind = next((tool.kind for tool in tools if tool.name == choice.name), "function")
    return _Choice(kind, choice.name)


def _text(chat: ChatRequest) -> _Text | None:
    if chat.format is None and chat.verbosity is None:
        return None
    return _Text(None if chat.format is None else _format(chat.format), chat.verbosity)


def _format(asked: JsonFormat) -> _Format:
    if asked.schema is None:
        return _Format("json_object")
    return _Format("json_schema", asked.name or _FORMAT_NAME, asked.schema, asked.is_strict)


_BUDGETS: Final = ((2048, "low"), (8192, "medium"))
"""The most tokens of thoughts that an effort stands for; more is ``high``."""


def _reasoning(asked: Reasoning, quirks: Quirks) -> _Reasoning | None:
    if asked == Reasoning():
        return None
    if asked.is_on is False:
        said = quirks.efforts.get("none", "none")
        return _Reasoning(said) if said else None
    effort = asked.effort
    if effort is None and asked.budget_tokens is not None:
        effort = next((name for most, name in _BUDGETS if asked.budget_tokens <= most), "high")
    # Only those who asked for thoughts are sent a summary: OpenAI makes none for accounts that are not verified.
    spoken = effort and quirks.efforts.get(effort, effort)
    return _Reasoning(spoken or None, "auto" if asked.is_on else None)
