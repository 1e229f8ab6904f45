"""Decodes the input items of a request of the Responses API."""

from collections.abc import Callable, Mapping
from typing import ClassVar, Final

import msgspec

from nexus.errors import RequestError
from nexus.translation.chat import (
    File,
    Image,
    Message,
    Part,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from nexus.translation.data_urls import embedded_in
from nexus.translation.refusals import not_translatable
from nexus.translation.responses.fixed_tools import FIXED_TOOLS, TYPE_OF_CALL, TYPE_OF_OUTPUT
from nexus.translation.responses.names import single_name
from nexus.translation.responses.signatures import unpacked
from nexus.translation.responses.tools_in import TOOLS, Toolbox
from nexus.wire.documents import read


class _Part(msgspec.Struct):
    """A part of a content; a type uses some of the members."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    image_url: msgspec.Raw = msgspec.Raw()
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None


class _Item(msgspec.Struct):
    """Any item; a type uses some of the members."""

    type: str | None = None
    role: str | None = None
    content: str | list[_Part] | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    action: msgspec.Raw = msgspec.Raw()
    operation: msgspec.Raw = msgspec.Raw()
    output: msgspec.Raw = msgspec.Raw()
    status: str | None = None
    tools: msgspec.Raw = msgspec.Raw()
    summary: list[_Part] | None = None
    encrypted_content: str | None = None


INPUT: Final = msgspec.json.Decoder(str | list[_Item], strict=False)
_STRING: Final = msgspec.json.Decoder(str)
_CONTENT: Final = msgspec.json.Decoder(str | list[_Part], strict=False)


class Turns:
    """Puts items together to messages: items of the model that follow each other are one message, as are results."""

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._messages: list[tuple[Role, list[Part]]] = []
        self._waiting: set[str] = set()
        """Calls that have no result yet."""
        self._answered: set[str] = set()
        self.lost: set[str] = set()

    def messages(self) -> tuple[Message, ...]:
        return tuple(Message(role, tuple(parts)) for role, parts in self._messages)

    def add_text(self, role: Role, text: str) -> None:
        self._messages.append((role, [Text(text)]))

    def add(self, item: _Item) -> None:
        """Add *item*. :raises RequestError: it is invalid, or stands for what only its own server knows."""
        type_ = item.type or ("message" if item.role else "item_reference")
        if (read_item := self._METHODS.get(type_)) is not None:
            read_item(self, item)
        elif type_ in TYPE_OF_CALL:
            self._add_fixed_call(TYPE_OF_CALL[type_], item)
        elif type_ in TYPE_OF_OUTPUT:
            self._add_fixed_output(item)
        else:
            self.lost.add(f"input.{type_}")

    def _add_message(self, item: _Item) -> None:
        role = _ROLES.get(item.role or "")
        if role is None:
            raise RequestError("invalid_value", "role must be user, assistant, system or developer", param="input")
        content = item.content
        parts = [Text(content)] if isinstance(content, str) else [self._part(part) for part in content or ()]
        if role == "assistant":
            self._assistant().extend(parts)
        else:
            self._messages.append((role, list[Part](parts)))

    def _add_call(self, item: _Item) -> None:
        arguments = _text_in(item.arguments)
        call = ToolCall(_call_id(item), single_name(item.namespace, item.name or ""), arguments.strip() or "{}")
        self._ask(call)

    def _add_custom_call(self, item: _Item) -> None:
        name = single_name(item.namespace, item.name or "")
        call = ToolCall(_call_id(item), name, _text_in(item.input), kind="custom")
        self._ask(call)

    def _add_fixed_call(self, type_: str, item: _Item) -> None:
        arguments = _text_in(getattr(item, FIXED_TOOLS[type_].member))
        call = ToolCall(_call_id(item), type_, arguments or "{}")
        self._ask(call)

    def _ask(self, call: ToolCall) -> None:
        self._waiting.add(call.id)
        # Some servers count ids from zero in every answer: what answered an earlier call does not answer this one.
        self._answered.discard(call.id)
        self._assistant().append(call)

    def _add_output(self, item: _Item) -> None:
        content = read(_CONTENT, bytes(item.output)) if item.output else ""
        if isinstance(content, list):
            parts = tuple(map(self._part, content))
        else:
            parts = (Text(_text_in(item.output) if content is None else content),)
        self._add_result(_call_id(item), parts, item.name or "")

    def _add_fixed_output(self, item: _Item) -> None:
        if item.tools:
            self._add_tools(item)
        text = _text_in(item.output) or _text_in(item.tools) or item.status or ""
        self._add_result(_call_id(item), (Text(text),), "")

    def _add_result(self, call_id: str, parts: tuple[Text | Image | File, ...], name: str) -> None:
        if call_id in self._answered:
            # The other dialects allow one result per call.
            self.lost.add("input.function_call_output")
            return
        if call_id not in self._waiting:
            # They allow no result without a call, so the model is shown what it says.
            self._messages.append(("user", list[Part](parts)))
            return
        self._waiting.remove(call_id)
        self._answered.add(call_id)
        if not (self._messages and _has_results(self._messages[-1][1])):
            self._messages.append(("user", []))
        self._messages[-1][1].append(ToolResult(call_id, parts, name))

    def _add_reasoning(self, item: _Item) -> None:
        carried = unpacked(item.encrypted_content) if item.encrypted_content else Thinking()
        if carried is None:
            carried = Thinking()
            self.lost.add("input.encrypted_content")
        if not (carried.text or carried.redacted):
            parts = item.content if isinstance(item.content, list) and item.content else item.summary
            carried = Thinking("\n\n".join(part.text for part in parts or () if part.text), carried.signature)
        if carried != Thinking():
            self._assistant().append(carried)

    def _add_tools(self, item: _Item) -> None:
        tools = read(TOOLS, bytes(item.tools))
        self._toolbox.add(tools or ())

    def _refuse_reference(self, _item: _Item) -> None:
        raise not_translatable("input.item_reference", "send the item itself, with store set to false")

    def _refuse_compaction(self, _item: _Item) -> None:
        raise not_translatable("input.compaction", "send the whole conversation")

    def _assistant(self) -> list[Part]:
        """Return the parts of the model's message that is being put together."""
        if not self._messages or self._messages[-1][0] != "assistant":
            self._messages.append(("assistant", []))
        return self._messages[-1][1]

    def _part(self, part: _Part) -> Text | Image | File:
        if part.type == "input_image":
            return self._image(part)
        if part.type == "input_file":
            return _file(part)
        text = part.refusal if part.type == "refusal" else part.text
        if text is None:
            raise not_translatable(f"input.content.{part.type}", "leave it out, or send it as text")
        return Text(text)

    def _image(self, part: _Part) -> Image:
        if part.detail and part.detail != "auto":
            self.lost.add("input.detail")
        url = _text_in(part.image_url)
        if not url or part.file_id:
            raise not_translatable("input.content.file_id", "send the image itself as image_url")
        embedded = embedded_in(url)
        return Image(url=url) if embedded is None else Image(embedded.data, embedded.media_type)

    _METHODS: ClassVar[Mapping[str, Callable[..., None]]] = {
        "message": _add_message,
        "function_call": _add_call,
        "function_call_output": _add_output,
        "custom_tool_call": _add_custom_call,
        "custom_tool_call_output": _add_output,
        "reasoning": _add_reasoning,
        "additional_tools": _add_tools,
        "item_reference": _refuse_reference,
        "compaction": _refuse_compaction,
        "compaction_trigger": _refuse_compaction,
        "context_compaction": _refuse_compaction,
    }
    """By type; of the types that are not here, a server runs the tools."""


_ROLES: Final[Mapping[str, Role]] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}


def _has_results(parts: list[Part]) -> bool:
    return bool(parts) and type(parts[0]) is ToolResult


def _call_id(item: _Item) -> str:
    return item.call_id or item.id or ""


def _file(part: _Part) -> File:
    name = part.filename or ""
    if part.file_data:
        embedded = embedded_in(part.file_data)
        # Some clients send the data alone.
        return (
            File(part.file_data, name=name) if embedded is None else File(embedded.data, embedded.media_type, name=name)
        )
    if part.file_url:
        return File(url=part.file_url, name=name)
    raise not_translatable("input.content.file_id", "send the file itself as file_data")


def _text_in(raw: msgspec.Raw) -> str:
    """Return the string in *raw*, or else its JSON text; empty if it is absent or null."""
    if not raw:
        return ""
    content = bytes(raw)
    if content.startswith(b'"'):
        return read(_STRING, content) or ""
    return "" if content == b"null" else content.decode(errors="replace")
