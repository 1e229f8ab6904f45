"""Decodes whole answers and chunks of OpenAI's chat dialect, also of servers that only resemble it."""

from typing import Any, Final

import msgspec

from nexus.translation.openai.message import Call, Choice, Document, ExtraContent, Function, Google, Said
from nexus.translation.openai.usage import ChatUsage
from nexus.wire.documents import read

_DOCUMENT: Final = msgspec.json.Decoder(Document)


def document_in(content: bytes) -> Document | None:
    """Return the document in *content*, with what is of an unexpected type left out; None if it is no JSON object."""
    document = read(_DOCUMENT, content)
    return document if document is not None else _leniently(content)


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
