"""Decodes a request of the Responses API."""

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from nexus.errors import RequestError
from nexus.translation.chat import ChatRequest, JsonFormat, Reasoning
from nexus.translation.reading import decode_body
from nexus.translation.refusals import not_translatable
from nexus.translation.responses.items_in import INPUT, Turns
from nexus.translation.responses.tools_in import CHOICE, TOOLS, Toolbox
from nexus.wire.documents import is_given, read

T = TypeVar("T")


def decode_request(body: bytes) -> ChatRequest:
    """Return the request in *body*. :raises RequestError: see :attr:`Dialect.decode_request`."""
    fields = _Fields(body)
    for name, remedy in _STATE.items():
        fields.refuse(name, remedy)
    toolbox = Toolbox()
    given_tools = fields.take("tools", TOOLS)
    toolbox.add(given_tools or ())
    turns = Turns(toolbox)
    if instructions := fields.take("instructions", _STRING):
        turns.add_text("system", instructions)
    given = fields.take("input", INPUT)
    if isinstance(given, str):
        turns.add_text("user", given)
    else:
        for item in given or ():
            turns.add(item)
    tools, choice = toolbox.chosen(fields.take("tool_choice", CHOICE))
    text = fields.take_object("text", _TEXT, _TEXT_MEMBERS) or _Text()
    user, safety_identifier = fields.take("user", _STRING), fields.take("safety_identifier", _STRING)
    return ChatRequest(
        model=fields.take("model", _STRING) or "",
        messages=turns.messages(),
        is_stream=fields.take("stream", _BOOL) is True,
        wants_usage=True,
        tools=tools,
        tool_choice=choice,
        parallel_tools=fields.take("parallel_tool_calls", _BOOL),
        max_tokens=fields.take("max_output_tokens", _INT),
        temperature=fields.take("temperature", _FLOAT),
        top_p=fields.take("top_p", _FLOAT),
        top_k=fields.take("top_k", _INT),
        seed=fields.take("seed", _INT),
        presence_penalty=fields.take("presence_penalty", _FLOAT),
        frequency_penalty=fields.take("frequency_penalty", _FLOAT),
        format=_format_in(text),
        verbosity=text.verbosity,
        reasoning=_reasoning_in(fields.take_object("reasoning", _REASONING, _REASONING_MEMBERS)),
        user=user or safety_identifier,
        cache_key=fields.take("prompt_cache_key", _STRING),
        echo=fields.echo(),
        lost=tuple(sorted({*fields.lost(), *toolbox.lost, *turns.lost})),
    )


_WHOLE: Final = "send the whole conversation as input, with store set to false"
_STATE: Final[Mapping[str, str]] = {
    "previous_response_id": _WHOLE,
    "conversation": _WHOLE,
    "prompt": "send it as instructions and input",
    "background": "leave it out, or use a stream",
}
"""Members that no other dialect has, and without which a request would mean something else; with what to do."""

_WITHOUT_EFFECT: Final[Mapping[str, frozenset[bytes]]] = {
    "store": frozenset({b"false"}),
    "truncation": frozenset({b'"disabled"'}),
    "service_tier": frozenset({b'"auto"', b'"default"'}),
    "background": frozenset({b"false"}),
    "top_logprobs": frozenset({b"0"}),
    "include": frozenset({b'["reasoning.encrypted_content"]'}),
}
"""Values that ask for nothing, or for what a translated answer has anyway; other members are listed as lost."""

_HARMLESS: Final = frozenset({"metadata", "stream_options"})
"""Members that the answer repeats, or that only change its framing."""

_ECHOED: Final = (
    "background",
    "include",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
    "user",
)


class _Fields:
    """The members of a body that are not null; each is decoded when it is taken."""

    def __init__(self, body: bytes) -> None:
        members = decode_body(_OBJECT, body)
        self._all = {name: value for name, value in members.items() if bytes(value) != b"null"}
        self._rest = dict(self._all)
        self._lost_within: set[str] = set()

    def take(self, name: str, decoder: msgspec.json.Decoder[T]) -> T | None:
        """Return a member, None if it is absent. :raises RequestError: it has another type."""
        raw = self._rest.pop(name, None)
        if raw is None:
            return None
        try:
            return decoder.decode(raw)
        except (msgspec.DecodeError, RecursionError) as exc:
            raise RequestError("invalid_value", f"{name}: {exc}", param=name) from None

    def take_object(self, name: str, decoder: msgspec.json.Decoder[T], known: frozenset[str]) -> T | None:
        """Return the same of an object, of which other members than *known* are lost."""
        members = read(_OBJECT, bytes(self._rest.get(name, b"")))
        for inner, value in (members or {}).items():
            if inner not in known and is_given(value):
                self._lost_within.add(f"{name}.{inner}")
        return self.take(name, decoder)

    def refuse(self, name: str, remedy: str) -> None:
        """:raises RequestError: the member asks for something."""
        raw = self._rest.pop(name, None)
        if raw is not None and is_given(raw):
            raise not_translatable(name, remedy)

    def echo(self) -> Mapping[str, msgspec.Raw]:
        return {name: self._all[name] for name in _ECHOED if name in self._all}

    def lost(self) -> frozenset[str]:
        """Return the names of the members that were not taken, and ask for something."""
        names = (name for name, value in self._rest.items() if not _asks_for_nothing(name, bytes(value)))
        return frozenset(names) | self._lost_within


def _asks_for_nothing(name: str, value: bytes) -> bool:
    return name in _HARMLESS or value in _WITHOUT_EFFECT.get(name, ()) or value in (b"[]", b"{}", b'""')


class _Format(msgspec.Struct):
    type: str = "text"
    name: str | None = None
    schema: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None


class _Text(msgspec.Struct):
    format: _Format | None = None
    verbosity: str | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None


def _format_in(text: _Text) -> JsonFormat | None:
    format_ = text.format
    if format_ is None or format_.type == "text":
        return None
    if format_.type not in ("json_object", "json_schema"):
        raise not_translatable("text.format", "use json_schema")
    return JsonFormat(format_.schema or None, format_.name or "", format_.strict)


def _reasoning_in(reasoning: _Reasoning | None) -> Reasoning:
    if reasoning is None or not reasoning.effort:
        return Reasoning()
    return Reasoning(is_on=False) if reasoning.effort == "none" else Reasoning(is_on=True, effort=reasoning.effort)


_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STRING: Final = msgspec.json.Decoder(str)
_BOOL: Final = msgspec.json.Decoder(bool, strict=False)
_INT: Final = msgspec.json.Decoder(int, strict=False)
_FLOAT: Final = msgspec.json.Decoder(float, strict=False)
_TEXT_MEMBERS: Final = frozenset({"format", "verbosity"})
_REASONING_MEMBERS: Final = frozenset({"effort", "summary", "generate_summary"})
_TEXT: Final = msgspec.json.Decoder(_Text, strict=False)
_REASONING: Final = msgspec.json.Decoder(_Reasoning)
