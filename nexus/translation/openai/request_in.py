"""Reads requests of OpenAI's chat dialect."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from nexus.errors import RequestError
from nexus.translation.chat import ChatRequest, JsonFormat, OneTool, Reasoning, Tool, ToolChoice
from nexus.translation.openai.history_in import HistoryMessage, history_in
from nexus.translation.reading import decode_body, stops_in
from nexus.translation.refusals import not_translatable
from nexus.wire.documents import is_given

NOTHING: Final = msgspec.Raw()
Number = int | float


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = NOTHING
    strict: bool | None = None


class _CustomTool(msgspec.Struct):
    name: str
    description: str | None = None
    format: msgspec.Raw = NOTHING


class _Tool(msgspec.Struct):
    type: str = "function"
    function: _Function | None = None
    custom: _CustomTool | None = None
    name: str | None = None
    """Here and below: clients send functions as the Responses API has them, too."""
    description: str | None = None
    parameters: msgspec.Raw = NOTHING
    strict: bool | None = None


class _Named(msgspec.Struct):
    name: str


class _Choice(msgspec.Struct):
    type: str = "function"
    function: _Named | None = None
    custom: _Named | None = None
    name: str | None = None
    allowed_tools: "_Allowed | None" = None

    @property
    def chosen(self) -> str | None:
        """The name of a tool."""
        named = self.function or self.custom
        return self.name if named is None else named.name


class _Allowed(msgspec.Struct):
    mode: str = "auto"
    tools: list[_Choice] = []


class _JsonSchema(msgspec.Struct):
    name: str | None = None
    schema: msgspec.Raw = NOTHING
    strict: bool | None = None


class _Format(msgspec.Struct):
    type: str
    json_schema: _JsonSchema | None = None
    schema: msgspec.Raw = NOTHING
    """Of llama.cpp, beside the type ``json_object``."""


class _Reasoning(msgspec.Struct):
    """Of OpenRouter."""

    effort: str | None = None
    max_tokens: int | None = None
    enabled: bool | None = None


class _Thinking(msgspec.Struct):
    """Of DeepSeek and others that took it over from Anthropic."""

    type: str | None = None
    budget_tokens: int | None = None


class _TemplateArguments(msgspec.Struct):
    """Of vLLM and SGLang."""

    enable_thinking: Any = None
    thinking: Any = None


class _Request(msgspec.Struct):
    messages: list[HistoryMessage]
    model: str = ""
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _Choice | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: Number | str | None = None
    max_completion_tokens: Number | str | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: Number | None = None
    seed: Number | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    stop: str | list[str] | None = None
    response_format: _Format | None = None
    guided_json: msgspec.Raw = NOTHING
    """The schema of the answer at older vLLM."""
    reasoning_effort: str | None = None
    reasoning: _Reasoning | None = None
    thinking: _Thinking | None = None
    chat_template_kwargs: _TemplateArguments | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


_DECODER: Final = msgspec.json.Decoder(_Request)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KNOWN: Final = frozenset(_Request.__struct_fields__)

_REFUSED: Final[Mapping[str, str]] = {
    "functions": "use 'tools' instead",
    "function_call": "use 'tool_choice' instead",
    "audio": "ask for text",
    "guided_regex": "use 'response_format' with a JSON schema",
    "guided_choice": "use 'response_format' with a JSON schema",
    "guided_grammar": "use 'response_format' with a JSON schema",
    "grammar": "use 'response_format' with a JSON schema",
    "regex": "use 'response_format' with a JSON schema",
    "ebnf": "use 'response_format' with a JSON schema",
    "structured_outputs": "use 'response_format' with a JSON schema",
}
"""Members without which the answer would be of another kind, and what to do instead."""

EFFORTS: Final = frozenset({"minimal", "low", "medium", "high", "xhigh", "max"})


def decode_request(body: bytes) -> ChatRequest:
    """Return the request in *body*. :raises RequestError: as :attr:`~nexus.translation.dialect.Dialect.decode_request`.

    Fields that only one provider has are listed as lost, unless they say nothing.
    """
    request = decode_body(_DECODER, body)
    others = {name: raw for name, raw in _MEMBERS.decode(body).items() if name not in _KNOWN}
    lost = set(_lost(others))
    tools, choice = _chosen(request, tuple(_tools(request.tools or (), lost)))
    return ChatRequest(
        model=request.model,
        messages=history_in(request.messages, lost),
        is_stream=bool(request.stream),
        wants_usage=bool(request.stream_options and request.stream_options.include_usage),
        tools=tools,
        tool_choice=choice,
        parallel_tools=request.parallel_tool_calls,
        max_tokens=_max_tokens(request),
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=None if request.top_k is None else int(request.top_k),
        seed=None if request.seed is None else int(request.seed),
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        stop=stops_in(request.stop),
        format=_format(request),
        reasoning=_reasoning(request),
        user=request.user or request.safety_identifier,
        cache_key=request.prompt_cache_key,
        lost=tuple(sorted(lost)),
    )


def _lost(others: Mapping[str, msgspec.Raw]) -> Iterator[str]:
    for name, raw in others.items():
        if not is_given(raw) or (name == "n" and bytes(raw) == b"1"):
            continue
        if name in _REFUSED:
            raise not_translatable(name, _REFUSED[name])
        if name == "modalities":
            if b'"audio"' in bytes(raw):
                raise not_translatable(name, "ask for text only")
            continue
        yield name


def _tools(tools: list[_Tool] | tuple[()], lost: set[str]) -> Iterator[Tool]:
    for tool in tools:
        if tool.function is not None:
            function = tool.function
            schema = function.parameters if is_given(function.parameters) else None
            yield Tool(function.name, function.description or "", schema, function.strict)
        elif tool.custom is not None:
            grammar = tool.custom.format if is_given(tool.custom.format) else None
            yield Tool(tool.custom.name, tool.custom.description or "", kind="custom", grammar=grammar)
        elif tool.type == "function" and tool.name:
            schema = tool.parameters if is_given(tool.parameters) else None
            yield Tool(tool.name, tool.description or "", schema, tool.strict)
        else:
            # Run by its provider, such as a search.
            lost.add(f"tools.{tool.type}")


def _chosen(request: _Request, tools: tuple[Tool, ...]) -> tuple[tuple[Tool, ...], ToolChoice | None]:
    """Return those of *tools* that may be called, and how they are to be chosen."""
    choice = request.tool_choice
    if isinstance(choice, _Choice) and choice.allowed_tools is not None:
        allowed = {tool.chosen for tool in choice.allowed_tools.tools}
        return tuple(tool for tool in tools if tool.name in allowed), _tool_choice(choice.allowed_tools.mode)
    return tools, _tool_choice(choice)


def _tool_choice(choice: str | _Choice | None) -> ToolChoice | None:
    if isinstance(choice, _Choice):
        if choice.chosen is None:
            raise not_translatable("tool_choice", f"'{choice.type}' is unknown here; list only the allowed tools")
        return OneTool(choice.chosen)
    if choice in ("auto", "none", "required", None):
        return choice  # type: ignore[return-value]
    if choice == "any":
        return "required"
    raise RequestError(
        "invalid_value", "'tool_choice': expected 'auto', 'none', 'required' or a function", param="tool_choice"
    )


def _max_tokens(request: _Request) -> int | None:
    """Return the limit; None if there is none. Some engines take a negative number as no limit."""
    for name in ("max_completion_tokens", "max_tokens"):
        given = getattr(request, name)
        if given is None:
            continue
        try:
            limit = int(given)
        except (ValueError, OverflowError):
            raise RequestError("invalid_value", f"'{name}': expected a number", param=name) from None
        return limit if limit > 0 else None
    return None


def _format(request: _Request) -> JsonFormat | None:
    asked = request.response_format
    if asked is None or asked.type == "text":
        return JsonFormat(request.guided_json) if is_given(request.guided_json) else None
    if asked.type == "json_object":
        return JsonFormat(asked.schema if is_given(asked.schema) else None)
    if asked.type != "json_schema" or asked.json_schema is None:
        raise not_translatable("response_format", "use 'json_schema' or 'json_object'")
    schema = asked.json_schema
    return JsonFormat(schema.schema if is_given(schema.schema) else None, schema.name or "", schema.strict)


def _reasoning(request: _Request) -> Reasoning:
    reasoning, thinking, template = request.reasoning, request.thinking, request.chat_template_kwargs
    effort = request.reasoning_effort or (reasoning.effort if reasoning else None)
    budget = (reasoning.max_tokens if reasoning else None) or (thinking.budget_tokens if thinking else None)
    is_on: bool | None = None
    if effort == "none":
        is_on, effort = False, None
    elif reasoning is not None and reasoning.enabled is not None:
        is_on = reasoning.enabled
    elif thinking is not None and thinking.type is not None:
        is_on = thinking.type != "disabled"
    elif template is not None:
        chosen = template.thinking if template.enable_thinking is None else template.enable_thinking
        is_on = chosen if isinstance(chosen, bool) else None
    return Reasoning(is_on, effort if effort in EFFORTS else None, budget)
