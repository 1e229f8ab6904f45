"""Writes the messages of Ollama's requests."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from nexus.errors import RequestError
from nexus.translation.chat import ChatRequest, File, Image, Message, Part, Text, Thinking, ToolCall, ToolResult
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
    calls = {part.id: part.name for message in chat.messages for part in message.parts if type(part) is ToolCall}
    if any(type(part) is Thinking and part.redacted for message in chat.messages for part in message.parts):
        lost.add("redacted_thinking")
    written: list[OllamaMessage] = []
    answered: set[str] = set()
    for message in chat.messages:
        if message.role == "assistant":
            # Some servers count the ids of calls from zero again in each answer.
            answered.clear()
            written.append(_assistant(message))
        else:
            written += _asked(message, calls, answered)
    return written


_NEWLINE: Final = "\n"


def _assistant(message: Message) -> OllamaMessage:
    parts = message.parts
    calls = [
        OllamaCall(OllamaFunction(part.name, msgspec.Raw(as_object(part.arguments).encode())), part.id)
        for part in parts
        if type(part) is ToolCall
    ]
    thoughts = [part.text for part in parts if type(part) is Thinking and part.text]
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
