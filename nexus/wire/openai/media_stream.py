"""Watches a streamed answer of any other endpoint: speech, transcripts, images, and engines' own endpoints."""

from typing import Final

import msgspec

from nexus.wire.documents import is_given, read
from nexus.wire.openai.stream import DONE, OpenAIScan
from nexus.wire.streams.event import Event, Purpose


class MediaScan(OpenAIScan):
    """Typed events, of which the last is ``<what>.done`` or ``<what>.completed``."""

    __slots__ = ()

    def purpose(self, event: Event) -> Purpose:
        decoded = _decoded(event)
        if decoded is None:
            return Purpose.LIFECYCLE if event.content.strip() == DONE else Purpose.CONTENT
        return Purpose.ERROR if decoded.type == "error" or is_given(decoded.error) else Purpose.CONTENT

    def is_end(self, events: list[Event]) -> bool:
        return any(
            event.content.strip() == DONE
            or ((decoded := _decoded(event)) is not None and decoded.type.endswith((".done", ".completed")))
            for event in events
        )


class _TypedEvent(msgspec.Struct):
    type: str = ""
    error: msgspec.Raw = msgspec.Raw()


_DECODER: Final = msgspec.json.Decoder(_TypedEvent)


def _decoded(event: Event) -> _TypedEvent | None:
    return read(_DECODER, event.content)


class NativeScan(MediaScan):
    """Events of llama.cpp's completion or SGLang's generate, of which the last is OpenAI's end mark or has ``stop``."""

    __slots__ = ()

    second_usage_mark = b'"predicted_n"'
    """Of llama.cpp, in its last event."""

    def is_end(self, events: list[Event]) -> bool:
        return any(
            event.content.strip() == DONE or ((decoded := read(_PIECE, event.content)) is not None and decoded.stop)
            for event in events
        )


class _Piece(msgspec.Struct):
    stop: bool = False


_PIECE: Final = msgspec.json.Decoder(_Piece)
