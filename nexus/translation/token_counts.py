"""Counts the tokens of Anthropic's requests by an engine's tokenizer, or estimates them."""

import re
from collections.abc import Iterable, Iterator
from typing import Final, Never

import msgspec
from msgspec.structs import replace

from nexus.translation import anthropic, openai
from nexus.translation.chat import ChatRequest, File, Image, Part, Text, Thinking, ToolCall, ToolResult
from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.wire.documents import read
from nexus.wire.streams.scan import Framing

MESSAGE_TOKENS: Final = 4
"""What a chat template writes around a message, where only its text is counted or estimated."""
IMAGE_TOKENS: Final = 1500
"""Anthropic's API counts 1 600 for the largest image that it does not shrink, and engines between 250 and 3 000."""
FILE_TOKENS: Final = 2000
"""Of a page in a PDF with its picture; how many pages there are is not known."""


def count_answer(tokens: int) -> bytes:
    """Return the answer of ``/v1/messages/count_tokens``."""
    return b'{"input_tokens":%d}' % tokens


def estimated_answer(body: bytes, text_tokens: int) -> bytes:
    """Answer a question for the tokens of *body* with an estimate.

    :param text_tokens: those of its text and tools, as estimated for routing.
    """
    return count_answer(text_tokens + sum(_TOKENS_BESIDES_TEXT[found[1]] for found in _BESIDES_TEXT.finditer(body)))


_TOKENS_BESIDES_TEXT: Final = {
    b"image": IMAGE_TOKENS,
    b"document": FILE_TOKENS,
    b"user": MESSAGE_TOKENS,
    b"assistant": MESSAGE_TOKENS,
}


_BESIDES_TEXT: Final = re.compile(rb'"(?:type|role)"[ \t\n\r]*+:[ \t\n\r]*+"(image|document|user|assistant)"')
"""In a text, its quotes would be escaped."""


class TokenCount:
    """One question for the tokens of a request, as a question to an engine's ``/tokenize``.

    vLLM applies the chat template to messages and tools. The others tokenize the text that they are given, to which
    what the template adds is estimated. No tokenizer counts images.
    """

    __slots__ = ("_added", "body", "lost")

    def __init__(self, body: bytes, target: Target, _about: About) -> None:
        """:raises RequestError: *body* is invalid, or ``not_translatable``: it can still be estimated."""
        chat = anthropic.DIALECT.decode_request(body)
        self.lost = chat.lost
        parts = [part for message in chat.messages for part in message.parts]
        self._added = sum(_attached(parts))
        member = target.quirks.tokenized_member
        if member == "messages":
            self.body = _as_messages(chat, target)
            return
        self._added += MESSAGE_TOKENS * len(chat.messages)
        self.body = msgspec.json.encode({"model": target.model, member: "\n".join(_texts(chat, parts))})

    def answer(self, body: bytes) -> bytes:
        """Return the count. :raises ValueError: *body* has none."""
        found = read(_COUNTED, body)
        # llama.cpp has no count, and answers with no tokens if it does not find the text.
        count = 0 if found is None else found.count or len(found.tokens)
        if count <= 0:
            raise ValueError("the answer has no count of tokens")
        return count_answer(count + self._added)

    def answer_as_stream(self, body: bytes) -> bytes:
        """Return the count, which is never streamed. :raises ValueError: *body* has none."""
        return self.answer(body)

    def error(self, status: int, body: bytes, request_id: str) -> bytes:
        """Return the body of an error as Anthropic's clients read it."""
        return anthropic.DIALECT.encode_error(openai.DIALECT.decode_error(status, body), request_id)

    def stream(self, _framing: Framing) -> Never:
        raise LookupError("a tokenizer does not stream")


class _Counted(msgspec.Struct, gc=False):
    count: int = 0
    tokens: list[msgspec.Raw] = []


_COUNTED: Final = msgspec.json.Decoder(_Counted)


class _Tokenized(msgspec.Struct):
    """The members of a chat that its prompt is made of."""

    messages: msgspec.Raw
    tools: msgspec.Raw = msgspec.Raw()


_TOKENIZED_CHAT: Final = msgspec.json.Decoder(_Tokenized)


def _as_messages(chat: ChatRequest, target: Target) -> bytes:
    """Return what vLLM's ``/tokenize`` reads: a chat without anything but the prompt."""
    encode = openai.DIALECT.encode_request
    if encode is None:
        raise LookupError("no request is translated to OpenAI's chat")
    # Which tool the model must call is of no interest here.
    said = _TOKENIZED_CHAT.decode(encode(replace(chat, tool_choice=None), target).body)
    body: dict[str, msgspec.Raw | str | bool] = {"model": target.model, "messages": said.messages}
    if said.tools:
        body["tools"] = said.tools
    return msgspec.json.encode({**body, "add_generation_prompt": True})


def _attached(parts: Iterable[Part]) -> Iterator[int]:
    """Yield the tokens of each image and file in *parts*."""
    for part in parts:
        if isinstance(part, Image):
            yield IMAGE_TOKENS
        elif isinstance(part, File) and not part.text:
            yield FILE_TOKENS
        elif isinstance(part, ToolResult):
            yield from _attached(part.parts)


def _texts(chat: ChatRequest, parts: Iterable[Part]) -> Iterator[str]:
    """Yield all text of the prompt, in the order in which most templates write it."""
    for tool in chat.tools:
        yield f"{tool.name}\n{tool.description}\n{bytes(tool.schema or b'').decode(errors='replace')}"
    yield from _texts_of(parts)


def _texts_of(parts: Iterable[Part]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Text | Thinking | File):
            yield part.text
        elif isinstance(part, ToolCall):
            yield f"{part.name}\n{part.arguments}"
        elif isinstance(part, ToolResult):
            yield from _texts_of(part.parts)
