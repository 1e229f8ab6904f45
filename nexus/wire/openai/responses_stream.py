"""Watches a streamed answer of the Responses API."""

from typing import Any, Final

import msgspec

from nexus.wire.documents import is_given, read
from nexus.wire.errors.status import status_of
from nexus.wire.openai.stream import OpenAIScan, decoded_error, encode_failure
from nexus.wire.streams.event import Event, Purpose

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


class ResponsesScan(OpenAIScan):
    """Typed events, of which the last has the final response.

    The error of a failed response is a member of that response.
    """

    __slots__ = ()

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

    def reply_of(self, error: Event) -> tuple[int, bytes]:
        found = decoded_error(error)
        body = msgspec.json.encode({"error": found}) if isinstance(found, dict) else error.content
        return status_of(found), body

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
