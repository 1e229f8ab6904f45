"""Watches a streamed chat or text completion."""

from typing import Any, Final

import msgspec

from nexus.wire.documents import is_given, read
from nexus.wire.openai.stream import DONE, OpenAIScan
from nexus.wire.openai.text import text_in_chunk
from nexus.wire.streams.event import Event, Purpose


class ChatScan(OpenAIScan):
    """Chunks with ``choices``, and ``[DONE]`` at the end."""

    __slots__ = ()

    usage_mark = b'"prompt_tokens"'
    second_usage_mark = b'"predicted_n"'
    """Of llama.cpp, which sends it even if the client requests no usage."""

    text_in = staticmethod(text_in_chunk)

    def purpose(self, event: Event) -> Purpose:
        if event.content.strip() == DONE:
            return Purpose.LIFECYCLE
        chunk = _decoded(event)
        if chunk is None:
            return Purpose.CONTENT
        if chunk.is_error:
            return Purpose.ERROR
        # Some clouds first send the result of a content filter, in a chunk without choices.
        has_content = chunk.choices is msgspec.UNSET or any(choice.has_content for choice in chunk.choices or ())
        return Purpose.CONTENT if has_content else Purpose.LIFECYCLE

    def is_end(self, events: list[Event]) -> bool:
        """Whether ``[DONE]`` came, or the last chunk with choices finishes them: some servers omit ``[DONE]``."""
        for event in reversed(events):
            if event.content.strip() == DONE:
                return True
            chunk = _decoded(event)
            if chunk is None or chunk.is_error or chunk.choices is msgspec.UNSET:
                return False
            if chunk.choices:
                return all(is_given(choice.finish_reason) for choice in chunk.choices)
        return False

    def epilogue(self, events: list[Event]) -> bytes:
        return b"" if any(event.content.strip() == DONE for event in events) else b"data: [DONE]\n\n"


class _Choice(msgspec.Struct):
    delta: dict[str, msgspec.Raw] | None = None
    """Of a chat."""
    text: msgspec.Raw = msgspec.Raw()
    """Of a text completion."""
    finish_reason: msgspec.Raw = msgspec.Raw()

    @property
    def has_content(self) -> bool:
        return (
            is_given(self.text)
            or is_given(self.finish_reason)
            or any(is_given(value) for name, value in (self.delta or {}).items() if name != "role")
        )


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | msgspec.UnsetType | None = msgspec.UNSET
    error: msgspec.Raw = msgspec.Raw()
    object: Any = None

    @property
    def is_error(self) -> bool:
        return is_given(self.error) or self.object == "error"


_DECODER: Final = msgspec.json.Decoder(_Chunk)


def _decoded(event: Event) -> _Chunk | None:
    return read(_DECODER, event.content)
