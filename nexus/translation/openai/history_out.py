"""Writes the messages of requests of OpenAI's chat dialect."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from nexus.translation.chat import File, Image, Message, Part, Text, Thinking
from nexus.translation.data_urls import data_url
from nexus.translation.media_types import file_name, media_type_of
from nexus.translation.pairing import PairedCall, Pairing
from nexus.translation.quirks import Quirks
from nexus.translation.refusals import not_translatable
from nexus.translation.signed_ids import SKIP
from nexus.translation.system_messages import with_one_system

NOTE_OF_IMAGES: Final = "What the tool returned besides follows in the next message."
ERROR: Final = "Error: "


class _ImageUrl(msgspec.Struct):
    url: str


class _FileData(msgspec.Struct):
    filename: str
    file_data: str


class _TextPart(msgspec.Struct):
    text: str
    type: Literal["text"] = "text"


class _ImagePart(msgspec.Struct):
    image_url: _ImageUrl
    type: Literal["image_url"] = "image_url"


class _FilePart(msgspec.Struct):
    file: _FileData
    type: Literal["file"] = "file"


WrittenPart = _TextPart | _ImagePart | _FilePart


class _Google(msgspec.Struct):
    thought_signature: str


class _ExtraContent(msgspec.Struct):
    google: _Google


class _Function(msgspec.Struct):
    name: str
    arguments: str


class _Call(msgspec.Struct):
    id: str
    function: _Function
    type: Literal["function"] = "function"
    extra_content: _ExtraContent | UnsetType = UNSET


class WrittenMessage(msgspec.Struct):
    """One message as backends read it."""

    role: str
    content: str | list[WrittenPart] | None
    """None only beside calls."""
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[_Call] | UnsetType = UNSET
    tool_call_id: str | UnsetType = UNSET


def history_out(messages: Sequence[Message], quirks: Quirks, lost: set[str]) -> list[WrittenMessage]:
    """Return *messages* as this dialect has them, and add to *lost* what they say besides.

    The results of calls come directly after the calls.

    A result without a call is a part of its user's message, and a call without a result gets an empty one if the
    conversation goes on: servers refuse either.
    """
    messages = messages if quirks.takes_late_system else with_one_system(messages)
    pairing = Pairing(messages, quirks.max_call_id_characters)
    written: list[WrittenMessage] = []
    user: list[Part] = []
    """What the user's next message has: many chat templates refuse two in a row."""
    for place, message in enumerate(messages):
        if message.role == "user":
            user += pairing.parts_of(place)
            continue
        _add_user(written, user)
        if message.role == "system":
            written.append(WrittenMessage("system", _content(message.parts)))
            continue
        calls = pairing.calls_of(place)
        written.append(_assistant(message, calls, quirks, lost))
        user += _add_results(written, calls, goes_on=place < len(messages) - 1)
    _add_user(written, user)
    return written


def _add_user(written: list[WrittenMessage], parts: list[Part]) -> None:
    """Add a user's message with *parts*, if there are any, and empty the list."""
    if parts:
        written.append(WrittenMessage("user", _content(parts)))
        parts.clear()


def _assistant(message: Message, calls: Sequence[PairedCall], quirks: Quirks, lost: set[str]) -> WrittenMessage:
    given = [part for part in message.parts if isinstance(part, Thinking)]
    # What its provider has signed is of no use to another one.
    kept = [part.text for part in given if not (part.signature or part.redacted)] if quirks.history_thoughts else []
    thoughts = "".join(kept)
    if len(kept) < len(given):
        lost.add("messages.thinking")
    text = "".join(part.text for part in message.parts if isinstance(part, Text))
    is_unsigned = quirks.wants_thought_signature and not any(call.signature for call in calls)
    written = [_call(call, quirks, SKIP if is_unsigned else "") for call in calls]
    return WrittenMessage(
        "assistant",
        text if text or not calls else None,
        reasoning_content=thoughts if thoughts and quirks.history_thoughts == "reasoning_content" else UNSET,
        reasoning=thoughts if thoughts and quirks.history_thoughts == "reasoning" else UNSET,
        tool_calls=written or UNSET,
    )


def _call(call: PairedCall, quirks: Quirks, mark: str) -> _Call:
    signature = (call.signature or mark) if quirks.wants_thought_signature else ""
    return _Call(
        call.id,
        _Function(call.name, call.arguments),
        extra_content=_ExtraContent(_Google(signature)) if signature else UNSET,
    )


def _add_results(written: list[WrittenMessage], calls: Sequence[PairedCall], *, goes_on: bool) -> list[Part]:
    """Add the results of *calls*, and return what only a user's message can have of them."""
    shown: list[Part] = []
    for call in calls:
        result = call.result
        if result is None:
            if goes_on:
                written.append(WrittenMessage("tool", "", tool_call_id=call.id))
            continue
        texts = [text for part in result.parts if (text := _text_of(part)) is not None]
        others = [part for part in result.parts if _text_of(part) is None]
        text = "\n".join(texts) or (NOTE_OF_IMAGES if others else "")
        if result.is_error and not text.startswith("Error"):
            text = ERROR + text
        written.append(WrittenMessage("tool", text, tool_call_id=call.id))
        shown += others
    return shown


def _content(parts: Iterable[Part]) -> str | list[WrittenPart]:
    """Return text alone as a string, as some servers take no other, and anything else as a list of parts."""
    given = [part for part in parts if isinstance(part, (Text, Image, File))]
    texts = [_text_of(part) for part in given]
    if None in texts:
        return [_part(part) for part in given]
    return "\n".join(text for text in texts if text)


def _text_of(part: Part) -> str | None:
    if isinstance(part, Text):
        return part.text
    return part.text if isinstance(part, File) and part.text else None


def _part(part: Text | Image | File) -> WrittenPart:
    if isinstance(part, Image):
        media_type = part.media_type or media_type_of(part.data) or "image/png"
        return _ImagePart(_ImageUrl(part.url or data_url(media_type, part.data)))
    if (text := _text_of(part)) is not None:
        return _TextPart(text)
    if isinstance(part, File) and part.data:
        media_type = part.media_type or media_type_of(part.data) or "application/octet-stream"
        return _FilePart(_FileData(file_name(part.name, media_type), data_url(media_type, part.data)))
    raise not_translatable("messages.content.file", "send the file's data in place of its URL")
