"""Watches a streamed answer of any other endpoint: speech, transcripts, images."""

from typing import Final

import msgspec

from nexus.domain.request import TokenUsage
from nexus.wire.documents import is_given, read
from nexus.wire.openai.chat_stream import DONE
from nexus.wire.openai.stream_errors import decoded_error, encode_failure, reply_of
from nexus.wire.openai.text import text_in_event
from nexus.wire.openai.usage import usage_of
from nexus.wire.streams.event import Event, Purpose
from nexus.wire.streams.scan import EventScan
from nexus.wire.streams.sse import SSEFraming


class MediaScan(EventScan):
    """Typed events, of which the last is ``<what>.done`` or ``<what>.completed``."""

    __slots__ = ()

    error_mark = b'"error"'
    usage_mark = b'"input_tokens"'

    def __init__(self) -> None:
        super().__init__(SSEFraming())

    text_in = staticmethod(text_in_event)

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

    def usage_in(self, event: Event) -> TokenUsage | None:
        return usage_of(event.content)

    def reply_of(self, error: Event) -> tuple[int, bytes]:
        return reply_of(decoded_error(error), error.content)

    def failure(self, code: str, message: str) -> bytes:
        return b"data: %b\n\n" % encode_failure(code, message)


class _TypedEvent(msgspec.Struct):
    type: str = ""
    error: msgspec.Raw = msgspec.Raw()


_DECODER: Final = msgspec.json.Decoder(_TypedEvent)


def _decoded(event: Event) -> _TypedEvent | None:
    return read(_DECODER, event.content)
