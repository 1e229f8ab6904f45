"""Writes a conversation as input items of the Responses API."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from nexus.translation.chat import File, Image, Message, Part, Text, Thinking, ToolCall
from nexus.translation.data_urls import data_url
from nexus.translation.media_types import file_name, media_type_of
from nexus.translation.pairing import PairedCall, Pairing
from nexus.translation.responses.signatures import encrypted_in


class _Text(msgspec.Struct):
    text: str
    type: Literal["input_text"] = "input_text"


class _Image(msgspec.Struct):
    image_url: str
    type: Literal["input_image"] = "input_image"
    detail: Literal["auto"] = "auto"


class _File(msgspec.Struct, omit_defaults=True):
    type: str
    filename: str = ""
    file_data: str = ""
    file_url: str = ""


_Part = _Text | _Image | _File
_Content = str | list[_Part]
ERROR = "Error:"
"""Begins the result of a call that has failed."""


class _Message(msgspec.Struct):
    role: str
    content: _Content
    type: Literal["message"] = "message"


class _Call(msgspec.Struct):
    call_id: str
    name: str
    arguments: str
    type: Literal["function_call"] = "function_call"


class _CustomCall(msgspec.Struct):
    call_id: str
    name: str
    input: str
    type: Literal["custom_tool_call"] = "custom_tool_call"


class _Output(msgspec.Struct):
    type: str
    call_id: str
    output: _Content


class _SummaryText(msgspec.Struct):
    text: str
    type: Literal["summary_text"] = "summary_text"


class _Reasoning(msgspec.Struct):
    id: str
    summary: list[_SummaryText]
    encrypted_content: str
    type: Literal["reasoning"] = "reasoning"


class Items:
    """The items of one request: the results of calls come directly after the calls.

    A result without a call is a part of its user's message, and a call without a result gets an empty one if the
    conversation goes on: servers refuse either, and two calls with one id.
    """

    def __init__(self, messages: Sequence[Message], max_id_characters: int | None = None) -> None:
        self.instructions = ""
        """The system prompt: what stands before the conversation."""
        self.items: list[Any] = []
        self.lost: set[str] = set()
        # A server refuses instructions without any input.
        first = next((place for place, message in enumerate(messages) if message.role != "system"), 0)
        self.instructions = "\n\n".join(text for message in messages[:first] if (text := _text_of(message.parts)))
        history = messages[first:]
        pairing = Pairing(history, max_id_characters)
        for place, message in enumerate(history):
            if message.role == "assistant":
                calls = pairing.calls_of(place)
                self._add_answer(message.parts, iter(calls))
                self._add_results(calls, goes_on=place < len(history) - 1)
            elif message.role == "system":
                self.items.append(_Message("system", _text_of(message.parts)))
            else:
                self._add_question(pairing.parts_of(place))

    def _add_answer(self, parts: Sequence[Part], calls: Iterator[PairedCall]) -> None:
        """Add *parts*, of which the calls are *calls*."""
        for part in parts:
            if isinstance(part, Text):
                if part.text:
                    self.items.append(_Message("assistant", part.text))
            elif isinstance(part, ToolCall):
                call = next(calls)
                written = _CustomCall if call.kind == "custom" else _Call
                self.items.append(written(call.id, call.name, call.arguments))
            elif isinstance(part, Thinking):
                self._add_thoughts(part)

    def _add_thoughts(self, thinking: Thinking) -> None:
        own = encrypted_in(thinking.signature)
        if own is None:
            # A server reads only what itself has encrypted.
            self.lost.add("messages.thinking")
            return
        item_id, encrypted = own
        self.items.append(_Reasoning(item_id, [_SummaryText(thinking.text)] if thinking.text else [], encrypted))

    def _add_results(self, calls: Sequence[PairedCall], *, goes_on: bool) -> None:
        for call in calls:
            if call.result is not None or goes_on:
                self.items.append(_output(call))

    def _add_question(self, parts: Sequence[Part]) -> None:
        content = [_part(part) for part in parts if isinstance(part, Text | Image | File)]
        if content:
            self.items.append(_Message("user", _content(content)))


def _text_of(parts: Sequence[Part]) -> str:
    return "\n\n".join(part.text for part in parts if isinstance(part, Text))


def _content(parts: list[_Part]) -> _Content:
    """Return one text as a string, and anything else as it is."""
    if len(parts) == 1 and isinstance(parts[0], _Text):
        return parts[0].text
    return parts


def _output(call: PairedCall) -> _Output:
    """Return the result of *call*, an empty one if it has none."""
    content = [] if call.result is None else [_part(part) for part in call.result.parts]
    texts = [part.text for part in content if isinstance(part, _Text)]
    if call.result is not None and call.result.is_error and not (texts and texts[0].startswith("Error")):
        content, texts = [_Text(ERROR), *content], [ERROR, *texts]
    # Some servers take nothing but a string.
    said = "\n".join(texts) if len(texts) == len(content) else content
    return _Output("custom_tool_call_output" if call.kind == "custom" else "function_call_output", call.id, said)


def _part(part: Text | Image | File) -> _Part:
    if isinstance(part, Text):
        return _Text(part.text)
    if isinstance(part, Image):
        media_type = part.media_type or media_type_of(part.data) or "image/png"
        return _Image(part.url or data_url(media_type, part.data))
    if part.text:
        return _Text(part.text)
    if part.url:
        return _File("input_file", file_url=part.url)
    media_type = part.media_type or media_type_of(part.data) or "application/octet-stream"
    return _File("input_file", file_name(part.name, media_type), data_url(media_type, part.data))
