"""Reads Ollama's requests for a chat."""

from typing import Final

import msgspec

from nexus.translation.chat import ChatRequest, Tool
from nexus.translation.ollama.history_in import OllamaMessage, history
from nexus.translation.ollama.options import COMMON, Common, lost_fields
from nexus.translation.reading import decode_body
from nexus.translation.refusals import not_translatable


def decode_request(body: bytes) -> ChatRequest:
    """Read a request. :raises RequestError: it is invalid, or only loads or unloads a model."""
    request = decode_body(_DECODER, body)
    if not request.messages:
        raise not_translatable("messages", "without one, the request loads or unloads a model, which only Ollama does")
    tools = tuple(
        Tool(function.name, function.description or "", _schema(function.parameters))
        for tool in request.tools or ()
        if (function := tool.function) is not None
    )
    lost = set(lost_fields(body, _KNOWN))
    messages = history(request.messages, lost)
    return ChatRequest(messages=messages, tools=tools, lost=tuple(sorted(lost)), **request.fields())


class _Function(msgspec.Struct):
    name: str = ""
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()


class _Tool(msgspec.Struct):
    function: _Function | None = None
    """Without it, Ollama's models see a tool without a name, which is as good as none."""


class _Request(Common, kw_only=True):
    messages: list[OllamaMessage] | None = None
    tools: list[_Tool] | None = None


_DECODER: Final = msgspec.json.Decoder(_Request)
_KNOWN: Final = COMMON | {"messages", "tools"}


def _schema(parameters: msgspec.Raw) -> msgspec.Raw | None:
    return parameters if bytes(parameters).startswith(b"{") else None
