"""Reads what whole answers and chunks of streams have in common in OpenAI's chat dialect."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nexus.translation.events import AnswerEvent, Failure, Finish, Reason, TextPart, ThinkingPart
from nexus.translation.openai.usage import ChatUsage
from nexus.wire.documents import is_given, read


class Google(msgspec.Struct, gc=False):
    thought_signature: str | None = None


class ExtraContent(msgspec.Struct, gc=False):
    google: Google | None = None


class Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class Call(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: Function | None = None
    extra_content: ExtraContent | None = None

    @property
    def signature(self) -> str:
        """Google's signature of the thoughts that led to the call; empty: none."""
        google = self.extra_content.google if self.extra_content else None
        return (google.thought_signature if google else None) or ""


class Said(msgspec.Struct, gc=False):
    """A message, or what a chunk adds to it."""

    content: str | None = None
    tool_calls: list[Call] | None = None
    reasoning_content: str | None = None
    """The name of the thoughts at llama.cpp, SGLang and DeepSeek, and formerly at vLLM."""
    reasoning: str | None = None
    """Their name at vLLM, Ollama, LM Studio and OpenRouter; some servers send both."""
    refusal: str | None = None


class Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: Said | None = None
    message: Said | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    """Of vLLM: the stop string that was found, or the number of a token."""


class Document(msgspec.Struct, gc=False):
    """A whole answer, or a chunk."""

    choices: list[Choice] | None = None
    id: str | None = None
    model: str | None = None
    usage: ChatUsage | None = None
    error: msgspec.Raw = msgspec.Raw()
    object: str | None = None

    def is_error(self) -> bool:
        return (bool(self.error) and is_given(self.error)) or self.object == "error"


_DOCUMENT: Final = msgspec.json.Decoder(Document)


def document_in(content: bytes) -> Document | None:
    """Return the document in *content*, with what is of an unexpected type left out; None if it is no JSON object."""
    document = read(_DOCUMENT, content)
    return document if document is not None else _leniently(content)


REASONS: Final[Mapping[str, Reason]] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
}
"""By the reason in lower case; any other that is new counts as ``stop``."""

_FAILURES: Final = frozenset({"abort", "error", "insufficient_system_resource"})
"""The reasons of vLLM, SGLang, OpenRouter and DeepSeek for answers that they have broken off."""


def add_text(said: Said, found: list[AnswerEvent]) -> None:
    """Add the thoughts and the text of a message."""
    if thoughts := said.reasoning_content or said.reasoning:
        found.append(ThinkingPart(thoughts))
    if said.content:
        found.append(TextPart(said.content))
    if said.refusal:
        found.append(TextPart(said.refusal))


def finish_of(choice: Choice, *, has_refused: bool) -> Finish | Failure:
    """Return why the answer ended; the choice has a reason."""
    name = (choice.finish_reason or "").lower()
    if name in _FAILURES:
        return Failure(502, f"the backend broke the answer off: {name}", "bad_gateway")
    reason = REASONS.get(name, "stop")
    if has_refused and reason == "stop":
        reason = "content_filter"
    return Finish(reason, choice.stop_reason if isinstance(choice.stop_reason, str) else "")


class _LooseFunction(msgspec.Struct):
    name: Any = None
    arguments: msgspec.Raw = msgspec.Raw()


class _LooseCall(msgspec.Struct):
    index: Any = None
    id: Any = None
    function: _LooseFunction | None = None
    extra_content: Any = None


class _LooseSaid(msgspec.Struct):
    content: Any = None
    tool_calls: list[_LooseCall] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None


class _LooseChoice(msgspec.Struct):
    index: Any = None
    delta: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()
    finish_reason: Any = None


class _LooseDocument(msgspec.Struct):
    choices: msgspec.Raw = msgspec.Raw()
    id: Any = None
    model: Any = None
    usage: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    object: Any = None


_LOOSE_DOCUMENT: Final = msgspec.json.Decoder(_LooseDocument)
_LOOSE_CHOICES: Final = msgspec.json.Decoder(list[_LooseChoice])
_LOOSE_SAID: Final = msgspec.json.Decoder(_LooseSaid)
_USAGE: Final = msgspec.json.Decoder(ChatUsage)
_STRING: Final = msgspec.json.Decoder(str)


def _leniently(content: bytes) -> Document | None:
    loose = read(_LOOSE_DOCUMENT, content)
    if loose is None:
        return None
    choices = read(_LOOSE_CHOICES, bytes(loose.choices))
    return Document(
        choices=None if choices is None else [_choice(choice) for choice in choices],
        id=_text(loose.id),
        model=_text(loose.model),
        usage=read(_USAGE, bytes(loose.usage)),
        error=loose.error,
        object=_text(loose.object),
    )


def _choice(loose: _LooseChoice) -> Choice:
    return Choice(
        _number(loose.index), _said(loose.delta), _said(loose.message), finish_reason=_text(loose.finish_reason)
    )


def _said(raw: msgspec.Raw) -> Said | None:
    loose = read(_LOOSE_SAID, bytes(raw))
    if loose is None:
        return None
    thoughts, text = _parts(loose.content)
    return Said(
        content=text,
        tool_calls=[_call(call) for call in loose.tool_calls or ()],
        reasoning_content=_text(loose.reasoning_content) or thoughts,
        reasoning=_text(loose.reasoning),
        refusal=_text(loose.refusal),
    )


def _parts(content: Any) -> tuple[str, str]:
    """Return the thoughts and the text of *content*, which Mistral's reasoning models send as a list of parts."""
    if not isinstance(content, list):
        return "", _text(content) or ""
    thoughts, text = [], []
    for part in content:
        if isinstance(part, dict):
            thoughts.append(_parts(part.get("thinking"))[1])
            text.append(_text(part.get("text")) or "")
    return "".join(thoughts), "".join(text)


def _call(loose: _LooseCall) -> Call:
    function = None
    if loose.function is not None:
        arguments = bytes(loose.function.arguments)
        # Some servers send an object where the dialect has a string.
        text = arguments.decode(errors="replace") if arguments.startswith(b"{") else read(_STRING, arguments)
        function = Function(_text(loose.function.name), text)
    google = loose.extra_content.get("google") if isinstance(loose.extra_content, dict) else None
    signature = _text(google.get("thought_signature")) if isinstance(google, dict) else None
    return Call(_number(loose.index), _text(loose.id), function, ExtraContent(Google(signature)))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and value == value // 1 else None
