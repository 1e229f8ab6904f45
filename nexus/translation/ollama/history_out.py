"""Writes the messages of Ollama's requests."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from nexus.errors import RequestError
from nexus.translation.chat import ChatRequest, File, Image, Message, Part, Text, Thinking, ToolCall, ToolResult
from nexus.translation.system_messages import with_one_system
from nexus.translation.tool_arguments import as_object


class OllamaFunction(msgspec.Struct):
    name: str
    arguments: msgspec.Raw


class OllamaCall(msgspec.Struct, omit_defaults=True):
    function: OllamaFunction
    id: str = ""


class OllamaMessage(msgspec.Struct, omit_defaults=True):
    role: str
    content: str
    thinking: str = ""
    images: list[str] = []
    tool_calls: list[OllamaCall] = []
    tool_name: str = ""
    tool_call_id: str = ""


def messages_of(chat: ChatRequest, lost: set[str]) -> list[OllamaMessage]:
    """Return the messages, and add what is left out to *lost*.

    :raises RequestError: a part is a file that Ollama cannot read.
    """
    if any(type(part) is Thinking and not _is_plain(part) for message in chat.messages for part in message.parts):
        lost.add("messages.thinking")
    written: list[OllamaMessage] = []
    calls: dict[str, str] = {}
    """The names of the tools of all calls, by id; some servers count ids from zero again in each answer."""
    answered: set[str] = set()
    # Of several system messages, some models of Ollama see the first only.
    for message in with_one_system(chat.messages):
        if message.role == "assistant":
            answered.clear()
            calls |= {part.id: part.name for part in message.parts if type(part) is ToolCall}
            written.append(_assistant(message))
            continue
        for asked in _asked(message, calls, answered):
            _add(written, asked)
    return written


def _is_plain(thinking: Thinking) -> bool:
    """Whether no provider has signed or encrypted it, which then is of no use to another one."""
    return not (thinking.signature or thinking.redacted)


def _add(written: list[OllamaMessage], asked: OllamaMessage) -> None:
    """Add a message, a user's to the last one if that is a user's: many models know turns by turns only."""
    last = written[-1] if written else None
    if last is None or not last.role == asked.role == "user":
        written.append(asked)
        return
    last.content = _NEWLINE.join(filter(None, (last.content, asked.content)))
    last.images = [*last.images, *asked.images]


_NEWLINE: Final = "\n"


def _assistant(message: Message) -> OllamaMessage:
    parts = message.parts
    calls = [
        OllamaCall(OllamaFunction(part.name, msgspec.Raw(as_object(part.arguments).encode())), part.id)
        for part in parts
        if type(part) is ToolCall
    ]
    thoughts = [part.text for part in parts if type(part) is Thinking and _is_plain(part)]
    texts, images = _texts_and_images(parts)
    return OllamaMessage("assistant", _NEWLINE.join(texts), _NEWLINE.join(thoughts), images, calls)


def _asked(message: Message, calls: Mapping[str, str], answered: set[str]) -> Iterable[OllamaMessage]:
    """Yield the results of tools, of two for the same call the first, and then what else a message says.

    Images of results follow in it, as not every server takes them as results.
    """
    texts, images = _texts_and_images(message.parts)
    results = [part for part in message.parts if type(part) is ToolResult]
    shown: list[str] = []
    for result in results:
        if result.call_id and result.call_id in answered:
            continue
        answered.add(result.call_id)
        result_texts, result_images = _texts_and_images(result.parts)
        shown += result_images
        content = _NEWLINE.join(result_texts)
        yield OllamaMessage(
            "tool",
            f"Error: {content}" if result.is_error else content,
            tool_name=result.name or calls.get(result.call_id, ""),
            tool_call_id=result.call_id,
        )
    if texts or images or shown or not results:
        yield OllamaMessage(message.role, _NEWLINE.join(texts), images=[*shown, *images])


def _texts_and_images(parts: Iterable[Part]) -> tuple[list[str], list[str]]:
    texts: list[str] = []
    images: list[str] = []
    for part in parts:
        if type(part) is Text:
            texts.append(part.text)
        elif type(part) is Image:
            images.append(_image(part.data))
        elif type(part) is File:
            if part.text:
                texts.append(part.text)
            elif part.media_type.startswith("image/"):
                images.append(_image(part.data))
            else:
                text = "'messages' has a file, and Ollama takes only texts and images; send its text"
                raise RequestError("not_translatable", text, param="messages")
    return texts, images


def _image(data: str) -> str:
    if not data:
        text = "'messages' has an image by its URL, which Ollama does not fetch; send it as a data: URL"
        raise RequestError("not_translatable", text, param="messages")
    return data
