"""Reads the messages of requests of OpenAI's chat dialect."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from nexus.errors import RequestError
from nexus.translation.chat import File, Image, Message, Part, Text, Thinking, ToolCall, ToolResult
from nexus.translation.data_urls import embedded_in
from nexus.translation.refusals import not_translatable
from nexus.wire.documents import is_given


class _ImageUrl(msgspec.Struct):
    url: str
    detail: str | None = None


class _File(msgspec.Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None
    refusal: str | None = None
    image_url: _ImageUrl | str | None = None
    file: _File | None = None


class _Function(msgspec.Struct):
    name: str
    arguments: str | None = None


class _Custom(msgspec.Struct):
    name: str
    input: str = ""


class _Call(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None
    custom: _Custom | None = None


class HistoryMessage(msgspec.Struct):
    """One message as clients send it."""

    role: str
    content: str | list[str | _Part] | None = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: str | None = None
    function_call: msgspec.Raw = msgspec.Raw()
    audio: msgspec.Raw = msgspec.Raw()


def history_in(messages: Iterable[HistoryMessage], lost: set[str]) -> tuple[Message, ...]:
    """Return *messages*, with the results of tools that follow each other in one; add to *lost* what has no place."""
    read: list[Message] = []
    results: list[Part] = []
    for place, message in enumerate(messages):
        if message.role == "tool":
            parts = tuple(part for part in _parts(message, lost) if isinstance(part, (Text, Image, File)))
            results.append(ToolResult(message.tool_call_id or "", parts, message.name or ""))
            continue
        if results:
            read.append(Message("user", tuple(results)))
            results = []
        if message.name:
            lost.add("messages.name")
        if message.role in ("system", "developer"):
            read.append(Message("system", tuple(_parts(message, lost))))
        elif message.role == "user":
            read.append(Message("user", tuple(_parts(message, lost))))
        elif message.role == "assistant":
            read.append(Message("assistant", tuple(_assistant(message, lost))))
        else:
            raise _unknown_role(message.role, place)
    if results:
        read.append(Message("user", tuple(results)))
    return tuple(read)


def _unknown_role(role: str, place: int) -> RequestError:
    param = f"messages[{place}].role"
    if role == "function":
        return not_translatable(param, "use the role 'tool' instead")
    roles = "'system', 'developer', 'user', 'assistant' or 'tool'"
    return RequestError("invalid_value", f"'{param}': expected {roles}", param=param)


def _assistant(message: HistoryMessage, lost: set[str]) -> Iterator[Part]:
    if is_given(message.function_call):
        raise not_translatable("messages.function_call", "use 'tool_calls' instead")
    if is_given(message.audio):
        raise not_translatable("messages.audio", "send its transcript as text")
    thoughts = message.reasoning_content or message.reasoning
    if thoughts and isinstance(thoughts, str):
        yield Thinking(thoughts)
    yield from _parts(message, lost)
    if message.refusal:
        yield Text(message.refusal)
    for call in message.tool_calls or ():
        if call.function is not None:
            yield ToolCall(call.id or "", call.function.name, call.function.arguments or "{}")
        elif call.custom is not None:
            yield ToolCall(call.id or "", call.custom.name, call.custom.input, kind="custom")


def _parts(message: HistoryMessage, lost: set[str]) -> Iterator[Part]:
    if isinstance(message.content, str):
        if message.content:
            yield Text(message.content)
        return
    for part in message.content or ():
        # Engines take bare texts as parts as well.
        if isinstance(part, str):
            yield Text(part)
        elif part.type not in _TEXTS or part.text is not None:
            yield _part(part, lost)


_TEXTS: Final = frozenset({"text", "input_text", "output_text"})


def _part(part: _Part, lost: set[str]) -> Part:
    if part.text is not None:
        return Text(part.text)
    if part.image_url is not None:
        return _image(part.image_url, lost)
    if part.file is not None:
        return _file(part.file)
    if part.refusal is not None:
        return Text(part.refusal)
    raise not_translatable(f"messages.content.{part.type}", "send text, images or files")


def _image(given: _ImageUrl | str, lost: set[str]) -> Image:
    if isinstance(given, str):
        given = _ImageUrl(given)
    if given.detail not in (None, "auto"):
        lost.add("messages.content.image_url.detail")
    embedded = embedded_in(given.url)
    return Image(url=given.url) if embedded is None else Image(embedded.data, embedded.media_type)


def _file(given: _File) -> File:
    if given.file_data is None:
        raise not_translatable("messages.content.file.file_id", "send 'file_data' instead")
    embedded = embedded_in(given.file_data)
    if embedded is None:
        # Its data without the head of the URL, of which the type is not known then.
        return File(given.file_data, name=given.filename or "")
    return File(embedded.data, embedded.media_type, name=given.filename or "")
