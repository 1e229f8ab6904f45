"""Writes Ollama's requests for a chat."""

from typing import Final

import msgspec

from nexus.errors import RequestError
from nexus.translation.chat import ChatRequest, JsonFormat, OneTool, Reasoning
from nexus.translation.dialect import EncodedRequest, Target
from nexus.translation.ollama.history_out import OllamaMessage, messages_of


def encode_request(chat: ChatRequest, target: Target) -> EncodedRequest:
    """Write a request. :raises RequestError: it requires what Ollama does not have."""
    lost: set[str] = set()
    tools = _tools(chat, lost)
    unsaid = (("user", chat.user), ("prompt_cache_key", chat.cache_key), ("verbosity", chat.verbosity))
    lost.update(name for name, value in unsaid if value)
    request = _Request(
        model=target.model,
        messages=messages_of(chat, lost),
        stream=chat.is_stream,
        tools=tools,
        format=_format(chat.format),
        think=_think(chat.reasoning, target, lost),
        options=_options(chat),
        keep_alive=chat.keep_alive,
    )
    return EncodedRequest(msgspec.json.encode(request), tuple(sorted(lost)))


class _Function(msgspec.Struct, omit_defaults=True):
    name: str
    description: str = ""
    parameters: msgspec.Raw | None = None


class _Tool(msgspec.Struct):
    type: str
    function: _Function


class _Options(msgspec.Struct, omit_defaults=True):
    num_predict: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()


class _Request(msgspec.Struct, omit_defaults=True):
    model: str
    messages: list[OllamaMessage]
    stream: bool
    """Always given, as Ollama streams by default."""
    tools: list[_Tool] = []
    format: msgspec.Raw | None = None
    think: bool | str | None = None
    options: _Options | None = None
    keep_alive: msgspec.Raw | None = None


_NO_OPTIONS: Final = _Options()
_JSON: Final = msgspec.Raw(b'"json"')
_NO_PARAMETERS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_LEVELS: Final = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "max"}
"""The values of ``think``, by the effort."""


def _options(chat: ChatRequest) -> _Options | None:
    options = _Options(
        num_predict=chat.max_tokens,
        temperature=chat.temperature,
        top_p=chat.top_p,
        top_k=chat.top_k,
        seed=chat.seed,
        presence_penalty=chat.presence_penalty,
        frequency_penalty=chat.frequency_penalty,
        stop=chat.stop,
    )
    return None if options == _NO_OPTIONS else options


def _tools(chat: ChatRequest, lost: set[str]) -> list[_Tool]:
    choice = chat.tool_choice
    if choice == "none" or not chat.tools:
        return []
    if choice == "required" or isinstance(choice, OneTool):
        raise RequestError(
            "not_translatable",
            "'tool_choice' cannot force a call of a tool on Ollama; use \"auto\", or a backend of another kind",
            param="tool_choice",
        )
    if chat.parallel_tools is False:
        lost.add("parallel_tool_calls")
    if any(tool.is_strict for tool in chat.tools):
        lost.add("strict")
    return [
        _Tool("function", _Function(tool.name, tool.description, tool.schema or _NO_PARAMETERS)) for tool in chat.tools
    ]


def _format(asked: JsonFormat | None) -> msgspec.Raw | None:
    return None if asked is None else asked.schema or _JSON


def _think(reasoning: Reasoning, target: Target, lost: set[str]) -> bool | str | None:
    """Return the value of ``think``; None leaves it to Ollama, which lets each model think that can.

    Ollama refuses to let a model think that cannot.
    """
    if reasoning.budget_tokens is not None:
        lost.add("budget_tokens")
    if reasoning.is_on is False:
        return False
    if reasoning.effort is None:
        return None
    level = _LEVELS.get(reasoning.effort) if target.thinks else None
    if level is None:
        lost.add("reasoning_effort")
    return level
