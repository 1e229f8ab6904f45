"""Writes messages as Anthropic's API reads them."""

import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from nexus.translation.anthropic.signatures import own
from nexus.translation.anthropic.turns import paired
from nexus.translation.chat import File, Image, Message, Part, Text, Thinking, ToolCall, ToolResult
from nexus.translation.media_types import media_type_of
from nexus.translation.tool_arguments import as_object

DEFAULT_IMAGE: Final = "image/png"

BEGINNING: Final = "(The conversation begins with an answer.)"
"""Stands before an answer that is the first message, which the API requires to be the user's."""


class TextOut(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class Base64Out(msgspec.Struct, tag_field="type", tag="base64"):
    media_type: str
    data: str


class UrlOut(msgspec.Struct, tag_field="type", tag="url"):
    url: str


class PlainTextOut(msgspec.Struct, tag_field="type", tag="text"):
    data: str
    media_type: str = "text/plain"


class ImageOut(msgspec.Struct, tag_field="type", tag="image"):
    source: Base64Out | UrlOut


class DocumentOut(msgspec.Struct, tag_field="type", tag="document", omit_defaults=True):
    source: Base64Out | UrlOut | PlainTextOut
    title: str = ""


class ToolUseOut(msgspec.Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: msgspec.Raw


class ToolResultOut(msgspec.Struct, tag_field="type", tag="tool_result", omit_defaults=True):
    tool_use_id: str
    content: "list[BlockOut]" = []
    is_error: bool = False


class ThinkingOut(msgspec.Struct, tag_field="type", tag="thinking"):
    thinking: str
    signature: str


class RedactedOut(msgspec.Struct, tag_field="type", tag="redacted_thinking"):
    data: str


BlockOut = TextOut | ImageOut | DocumentOut | ToolUseOut | ToolResultOut | ThinkingOut | RedactedOut


class MessageOut(msgspec.Struct):
    role: Literal["user", "assistant"]
    content: list[BlockOut]


def split(messages: Sequence[Message], lost: set[str]) -> tuple[list[TextOut], list[MessageOut]]:
    """Return the system prompt and the other messages.

    System messages are gathered at the beginning, as Anthropic's own API for OpenAI's clients does. If there are no
    others, the last text is the user's.
    """
    parts = [part for message in messages if message.role == "system" for part in message.parts]
    if not all(isinstance(part, Text) for part in parts):
        lost.add("messages.system")
    system = [TextOut(part.text) for part in parts if isinstance(part, Text) and is_said(part.text)]
    merged = _merged(paired([message for message in messages if message.role != "system"]), lost)
    if not merged and system:
        merged = [MessageOut("user", [system.pop()])]
    return system, merged


def _merged(messages: Iterable[Message], lost: set[str]) -> list[MessageOut]:
    """Return *messages*, those in a row by the same side as one: results of tools stand before anything else in it."""
    merged: list[MessageOut] = []
    for message in messages:
        blocks = blocks_of(message.parts, lost)
        role: Literal["user", "assistant"] = "assistant" if message.role == "assistant" else "user"
        if not blocks:
            continue
        if merged and merged[-1].role == role:
            merged[-1].content += blocks
        else:
            if not merged and role == "assistant":
                merged.append(MessageOut("user", [TextOut(BEGINNING)]))
            merged.append(MessageOut(role, blocks))
    if merged and merged[-1].role == "assistant" and isinstance(last := merged[-1].content[-1], TextOut):
        # The API refuses an answer to continue that ends with white space.
        last.text = last.text.rstrip() or "."
    return merged


def blocks_of(parts: Iterable[Part], lost: set[str]) -> list[BlockOut]:
    """Return *parts* as blocks. Text without a letter is left out, because the API refuses it."""
    return [block for part in parts if (block := _WRITERS[type(part)](part, lost)) is not None]


def _text(part: Text, _lost: set[str]) -> BlockOut | None:
    return TextOut(part.text) if is_said(part.text) else None


def is_said(text: str) -> bool:
    """Whether *text* has more than white space."""
    return bool(text) and not text.isspace()


def _image(part: Image, _lost: set[str]) -> BlockOut | None:
    if part.url:
        return ImageOut(UrlOut(part.url))
    return ImageOut(Base64Out(part.media_type or media_type_of(part.data) or DEFAULT_IMAGE, part.data))


def _file(part: File, lost: set[str]) -> BlockOut | None:
    if part.url:
        return DocumentOut(UrlOut(part.url), part.name)
    if part.data and not part.media_type.startswith("text/"):
        return DocumentOut(Base64Out(part.media_type or "application/pdf", part.data), part.name)
    text = part.text or _decoded(part.data)
    if not text:
        lost.add("messages.file")
        return None
    return DocumentOut(PlainTextOut(text), part.name)


def _tool_call(part: ToolCall, _lost: set[str]) -> BlockOut | None:
    arguments = as_object(part.arguments).encode(errors="replace")
    return ToolUseOut(_accepted(part.id), part.name, msgspec.Raw(arguments))


def _tool_result(part: ToolResult, lost: set[str]) -> BlockOut | None:
    return ToolResultOut(_accepted(part.call_id), blocks_of(part.parts, lost), part.is_error)


def _thinking(part: Thinking, lost: set[str]) -> BlockOut | None:
    """Write what the API has signed or encrypted itself: it refuses all other thoughts."""
    if (signature := own(part.signature)) is not None:
        return ThinkingOut(part.text, signature)
    if (data := own(part.redacted)) is not None:
        return RedactedOut(data)
    lost.add("messages.thinking")
    return None


_WRITERS: Final[Mapping[type[Part], Callable[[Any, set[str]], BlockOut | None]]] = {
    Text: _text,
    Image: _image,
    File: _file,
    ToolCall: _tool_call,
    ToolResult: _tool_result,
    Thinking: _thinking,
}


def _accepted(id_: str) -> str:
    """Return *id_* with only the characters that the API accepts in ids; the same for a call and its result."""
    return _REFUSED.sub(lambda found: f"_{ord(found[0]):x}", id_)


_REFUSED: Final = re.compile(r"[^a-zA-Z0-9_-]")


def _decoded(data: str) -> str:
    try:
        return binascii.a2b_base64(data).decode(errors="replace")
    except ValueError:
        return ""
