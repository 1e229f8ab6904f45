"""Writes requests of OpenAI's chat dialect."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from nexus.translation.chat import ChatRequest, JsonFormat, OneTool, Reasoning, Tool, ToolChoice
from nexus.translation.dialect import EncodedRequest, Target
from nexus.translation.openai.history_out import WrittenMessage, history_out
from nexus.translation.openai.schemas import Schemas
from nexus.translation.quirks import Quirks

_EMPTY_SCHEMA: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_FORMAT_NAME: Final = "answer"
_encode: Final = msgspec.json.Encoder().encode


class _Function(msgspec.Struct, omit_defaults=True):
    name: str
    description: str = ""
    parameters: msgspec.Raw | None = None
    strict: bool | None = None


class _Tool(msgspec.Struct):
    function: _Function
    type: Literal["function"] = "function"


class _Named(msgspec.Struct):
    name: str


class _Choice(msgspec.Struct):
    function: _Named
    type: Literal["function"] = "function"


class _JsonSchema(msgspec.Struct, omit_defaults=True):
    name: str
    schema: msgspec.Raw
    strict: bool | None = None


class _Format(msgspec.Struct):
    type: str
    json_schema: _JsonSchema | UnsetType = UNSET


_ANY_OBJECT: Final = _JsonSchema(_FORMAT_NAME, msgspec.Raw(b'{"type":"object"}'))


class _StreamOptions(msgspec.Struct):
    include_usage: bool


class _TemplateArguments(msgspec.Struct):
    enable_thinking: bool


class _Request(msgspec.Struct, omit_defaults=True):
    model: str
    messages: list[WrittenMessage]
    stream: bool = False
    stream_options: _StreamOptions | None = None
    tools: list[_Tool] = []
    tool_choice: str | _Choice | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()
    response_format: _Format | None = None
    verbosity: str | None = None
    reasoning_effort: str | None = None
    continue_final_message: bool = False
    add_generation_prompt: bool = True
    chat_template_kwargs: _TemplateArguments | None = None
    user: str | None = None
    prompt_cache_key: str | None = None


_OPTIONAL: Final = (
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "stop",
    "verbosity",
)
"""Fields that are passed on as they are, if the backend takes them."""


_SAMPLED: Final = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
"""The only values that models without sampling take."""


def encode_request(chat: ChatRequest, target: Target) -> EncodedRequest:
    quirks = target.quirks
    lost = set(_never_said(chat))
    schemas = Schemas(quirks)
    request = _Request(
        model=target.model,
        messages=history_out(chat.messages, quirks, lost),
        stream=chat.is_stream,
        # Always: Nexus counts the tokens of each answer.
        stream_options=_StreamOptions(include_usage=True) if chat.is_stream else None,
        response_format=None if chat.format is None else _format(chat.format, quirks, schemas),
    )
    if chat.max_tokens is not None:
        setattr(request, quirks.max_tokens_key, chat.max_tokens)
    if chat.tools:
        request.tools = [_tool(tool, schemas) for tool in chat.tools]
        request.tool_choice = _choice(chat.tool_choice)
        # True is what every server does by default, and some refuse it.
        request.parallel_tool_calls = False if chat.parallel_tools is False else None
    if quirks.continues_on_request and _begins_answer(request.messages):
        request.continue_final_message, request.add_generation_prompt = True, False
    _add_reasoning(request, chat.reasoning, target, lost)
    _add_options(request, chat, target, lost)
    return EncodedRequest(_encode(request), tuple(sorted(lost)))


def _begins_answer(messages: list[WrittenMessage]) -> bool:
    """Whether the last message is the beginning of the answer, as Anthropic's and Ollama's clients may send it."""
    last = messages[-1] if messages else None
    return last is not None and last.role == "assistant" and bool(last.content) and not last.tool_calls


def _never_said(chat: ChatRequest) -> Iterator[str]:
    if chat.keep_alive is not None:
        yield "keep_alive"


def _tool(tool: Tool, schemas: Schemas) -> _Tool:
    schema = schemas.adapted(tool.schema or _EMPTY_SCHEMA)
    return _Tool(_Function(tool.name, tool.description, schema, tool.is_strict))


def _choice(choice: ToolChoice | None) -> str | _Choice | None:
    return _Choice(_Named(choice.name)) if isinstance(choice, OneTool) else choice


def _format(asked: JsonFormat, quirks: Quirks, schemas: Schemas) -> _Format:
    if asked.schema is None:
        return _Format("json_object") if quirks.has_json_object else _Format("json_schema", _ANY_OBJECT)
    schema = _JsonSchema(asked.name or _FORMAT_NAME, schemas.adapted(asked.schema), asked.is_strict)
    return _Format("json_schema", schema)


def _add_options(request: _Request, chat: ChatRequest, target: Target, lost: set[str]) -> None:
    quirks = target.quirks
    takes_sampling = quirks.takes_sampling(target.model, request.reasoning_effort)
    given = {name: getattr(chat, name) for name in _OPTIONAL}
    given["user"] = _user(chat.user, quirks)
    given["prompt_cache_key"] = chat.cache_key
    for name, value in given.items():
        if value is None or value == ():
            continue
        if name in quirks.fields_left_out or not (takes_sampling or value == _SAMPLED.get(name, value)):
            lost.add(name)
        else:
            setattr(request, name, value)


def _user(user: str | None, quirks: Quirks) -> str | None:
    """Return an id that is short enough, and the same for the same user."""
    longest = quirks.max_user_characters
    if user is None or longest is None or len(user) <= longest:
        return user
    return sha256(user.encode()).hexdigest()[:longest]


def _add_reasoning(request: _Request, asked: Reasoning, target: Target, lost: set[str]) -> None:
    """Say how much the model may think, in the words of the backend; nothing to models that refuse all of them."""
    quirks = target.quirks
    if quirks.switches_thinking_by_template and asked.is_on is not None:
        request.chat_template_kwargs = _TemplateArguments(asked.is_on)
        if not asked.is_on:
            return
    effort = _effort(asked, quirks)
    if not effort:
        return
    spoken = quirks.efforts.get(effort, effort)
    if spoken and (quirks.takes_effort(target.model) if target.thinks is None else target.thinks):
        request.reasoning_effort = spoken
    else:
        lost.add("reasoning_effort")


_BUDGETS: Final = ((2048, "low"), (8192, "medium"))
"""The most tokens of thoughts that an effort stands for, as Google documents it; more is ``high``."""


def _effort(asked: Reasoning, quirks: Quirks) -> str:
    """Return the effort in the words of most dialects; empty if nothing is asked for."""
    if asked.is_on is False:
        return "none"
    if asked.effort is not None:
        return asked.effort
    if asked.budget_tokens is not None:
        budget = asked.budget_tokens
        return next((name for most, name in _BUDGETS if budget <= most), "high")
    return quirks.default_effort if asked.is_on else ""
