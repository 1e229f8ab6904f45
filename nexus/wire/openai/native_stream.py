"""Watches a streamed answer of an engine's own endpoint: llama.cpp's completion, SGLang's generate."""

from typing import Final

import msgspec

from nexus.wire.documents import read
from nexus.wire.openai.chat_stream import DONE
from nexus.wire.openai.media_stream import MediaScan
from nexus.wire.streams.event import Event


class NativeScan(MediaScan):
    """Events of which the last is OpenAI's end mark, or has ``stop``."""

    __slots__ = ()

    second_usage_mark = b'"predicted_n"'
    """Of llama.cpp, in its last event."""

    def is_end(self, events: list[Event]) -> bool:
        return any(
            event.content.strip() == DONE or ((decoded := read(_DECODER, event.content)) is not None and decoded.stop)
            for event in events
        )


class _Piece(msgspec.Struct):
    stop: bool = False


_DECODER: Final = msgspec.json.Decoder(_Piece)
