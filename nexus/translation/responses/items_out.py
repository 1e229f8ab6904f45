"""Writes a conversation as input items of the Responses API."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from nexus.translation.chat import File, Image, Message, Part, Text, Thinking, ToolCall, ToolResult
from nexus.translation.data_urls import data_url
from nexus.translation.media_types import file_name, media_type_of
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
    """The items of one request."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.instructions = ""
        """The system prompt: what stands before the conversation."""
        self.items: list[Any] = []
        self.lost: set[str] = set()
        self._calls: dict[str, ToolCall] = {}
        """Calls without a result yet, by the id that they have here."""
        self._count = 0
        # A server refuses instructions without any input.
        first = next((place for place, message in enumerate(messages) if message.role != "system"), 0)
        self.instructions = "\n\n".join(text for message in messages[:first] if (text := _text_of(message.parts)))
        for message in messages[first:]:
            if message.role == "assistant":
                self._add_answer(message.parts)
            elif message.role == "system":
                self.items.append(_Message("system", _text_of(message.parts)))
            else:
                self._add_question(message.parts)
        if messages and messages[-1].role != "assistant":
            self._answer_calls()

    def _add_answer(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if isinstance(part, Text):
                if part.text:
                    self.items.append(_Message("assistant", part.text))
            elif isinstance(part, ToolCall):
                self._add_call(part)
            elif isinstance(part, Thinking):
                self._add_thoughts(part)

    def _add_call(self, call: ToolCall) -> None:
        self._count += 1
        # The same in each request of a conversation.
        id_ = call.id or f"call_{self._count}"
        self._calls[id_] = call
        custom = call.kind == "custom"
        self.items.append((_CustomCall if custom else _Call)(id_, call.name, call.arguments))

    def _add_thoughts(self, thinking: Thinking) -> None:
        own = encrypted_in(thinking.signature)
        if own is None:
            # A server reads only what itself has encrypted.
            self.lost.add("messages.thinking")
            return
        item_id, encrypted = own
        self.items.append(_Reasoning(item_id, [_SummaryText(thinking.text)] if thinking.text else [], encrypted))

    def _add_question(self, parts: Sequence[Part]) -> None:
        content: list[_Part] = []
        for part in parts:
            if isinstance(part, ToolResult):
                content += self._add_result(part)
            elif isinstance(part, Text | Image | File):
                content.append(_part(part))
        if content:
            self.items.append(_Message("user", _content(content)))

    def _add_result(self, result: ToolResult) -> Sequence[_Part]:
        """Add *result*; return its content if the conversation has no call for it."""
        content = [_part(part) for part in result.parts]
        id_ = result.call_id if result.call_id in self._calls else self._first_of(result)
        if id_ is None:
            return content
        call = self._calls.pop(id_)
        texts = [part.text for part in content if isinstance(part, _Text)]
        if result.is_error and not (texts and texts[0].startswith("Error")):
            content, texts = [_Text(ERROR), *content], [ERROR, *texts]
        # Some servers take nothing but a string.
        self.items.append(_output(call, id_, "\n".join(texts) if len(texts) == len(content) else content))
        return ()

    def _answer_calls(self) -> None:
        """Put an empty result after each call that has none: servers refuse a conversation that goes on without."""
        for id_, call in self._calls.items():
            place = next(at for at, item in enumerate(self.items) if getattr(item, "call_id", "") == id_)
            self.items.insert(place + 1, _output(call, id_, ""))

    def _first_of(self, result: ToolResult) -> str | None:
        """Return the id of the call that a result without an id belongs to: one of its tool, else the first one."""
        if result.call_id:
            return None
        named = (id_ for id_, call in self._calls.items() if call.name == result.name)
        return next(named, next(iter(self._calls), None))


def _text_of(parts: Sequence[Part]) -> str:
    return "\n\n".join(part.text for part in parts if isinstance(part, Text))


def _content(parts: list[_Part]) -> _Content:
    """Return one text as a string, and anything else as it is."""
    if len(parts) == 1 and isinstance(parts[0], _Text):
        return parts[0].text
    return parts


def _output(call: ToolCall, id_: str, content: _Content) -> _Output:
    return _Output("custom_tool_call_output" if call.kind == "custom" else "function_call_output", id_, content)


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
