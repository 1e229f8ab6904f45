"""Watches a streamed answer of the Responses API."""

from typing import Any, Final

import msgspec

from nexus.domain.request import TokenUsage
from nexus.wire.documents import is_given, read
from nexus.wire.openai.stream_errors import decoded_error, encode_failure, reply_of
from nexus.wire.openai.text import text_in_event
from nexus.wire.openai.usage import usage_of
from nexus.wire.streams.event import Event, Purpose
from nexus.wire.streams.scan import EventScan
from nexus.wire.streams.sse import SSEFraming

TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
FAILURES: Final = frozenset({"response.failed", "error"})
LIFECYCLE: Final = frozenset(
    {
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_summary_part.added",
    }
)


class ResponsesScan(EventScan):
    """Typed events, of which the last has the final response."""

    __slots__ = ()

    error_mark = b'"error"'
    """Also occurs in the event of a failed response, as a member of the response."""
    usage_mark = b'"input_tokens"'

    def __init__(self) -> None:
        super().__init__(SSEFraming())

    text_in = staticmethod(text_in_event)

    def purpose(self, event: Event) -> Purpose:
        decoded = _decoded(event)
        if decoded is None:
            return Purpose.CONTENT
        if decoded.type in FAILURES or is_given(decoded.error):
            return Purpose.ERROR
        return Purpose.LIFECYCLE if decoded.type in LIFECYCLE else Purpose.CONTENT

    def is_end(self, events: list[Event]) -> bool:
        # Some servers append OpenAI's older end mark, or pings.
        return any(decoded.type in TERMINAL for event in events if (decoded := _decoded(event)))

    def usage_in(self, event: Event) -> TokenUsage | None:
        return usage_of(event.content)

    def reply_of(self, error: Event) -> tuple[int, bytes]:
        found = decoded_error(error)
        return reply_of(found, msgspec.json.encode({"error": found}) if isinstance(found, dict) else error.content)

    def failure(self, code: str, message: str) -> bytes:
        # Client libraries raise an error only for an event with a member `error`.
        number = self._next_number()
        event = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": number}
        return b"event: error\ndata: %b\n\n" % encode_failure(code, message, beside=event)

    def _next_number(self) -> int:
        numbers = [decoded.sequence_number for event in self._last_events() if (decoded := _decoded(event))]
        return max((number for number in numbers if isinstance(number, int)), default=-1) + 1


class _TypedEvent(msgspec.Struct):
    type: str = ""
    error: msgspec.Raw = msgspec.Raw()
    sequence_number: Any = None


_DECODER: Final = msgspec.json.Decoder(_TypedEvent)


def _decoded(event: Event) -> _TypedEvent | None:
    decoded = read(_DECODER, event.content)
    if decoded is not None and not decoded.type:
        decoded.type = event.name.decode(errors="replace")
    return decoded
