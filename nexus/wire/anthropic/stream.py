"""Watches a streamed message or text completion."""

from typing import Any, Final

import msgspec

from nexus.domain.request import TokenUsage
from nexus.wire.anthropic.errors import TYPE_OF_CODE
from nexus.wire.anthropic.text import text_in_event
from nexus.wire.anthropic.usage import read_usage
from nexus.wire.documents import read
from nexus.wire.errors.status import status_of
from nexus.wire.streams.event import Event, Purpose
from nexus.wire.streams.scan import StreamScan
from nexus.wire.streams.sse import SSEFraming

LIFECYCLE: Final = frozenset({"ping", "message_start", "content_block_start"})


class MessageScan(StreamScan):
    """Named events, the last of them ``message_stop``."""

    __slots__ = ("_prompt_tokens",)

    error_mark = b"error"
    """Without quotes, because the error event of one engine has the word in its name only."""
    usage_mark = b'"output_tokens"'

    def __init__(self) -> None:
        super().__init__(SSEFraming())
        self._prompt_tokens = 0

    text_in = staticmethod(text_in_event)

    def purpose(self, event: Event) -> Purpose:
        type_ = _type_of(event)
        if type_ == "error":
            return Purpose.ERROR
        return Purpose.LIFECYCLE if type_ in LIFECYCLE else Purpose.CONTENT

    def read_lifecycle(self, event: Event) -> None:
        if _type_of(event) == "message_start" and (usage := read_usage(event.content)):
            # Reported once, before the first content; the end of the stream has the rest.
            self._prompt_tokens = usage.prompt_tokens or 0

    def is_end(self, events: list[Event]) -> bool:
        return any(_type_of(event) == "message_stop" for event in events)

    def usage_in(self, event: Event) -> TokenUsage | None:
        usage = read_usage(event.content)
        if usage is None:
            return None
        prompt_tokens = usage.prompt_tokens
        return TokenUsage(prompt_tokens or self._prompt_tokens, usage.output_tokens or 0)

    def reply_of(self, error: Event) -> tuple[int, bytes]:
        found = _error_in(error)
        return status_of(found), msgspec.json.encode({"type": "error", "error": found})

    def failure(self, code: str, message: str) -> bytes:
        error = {"type": TYPE_OF_CODE.get(code, "api_error"), "message": message, "code": code}
        return b"event: error\ndata: %b\n\n" % msgspec.json.encode({"type": "error", "error": error})


class _TypedEvent(msgspec.Struct):
    type: str = ""


_DECODER: Final = msgspec.json.Decoder(_TypedEvent)


def _type_of(event: Event) -> str:
    # Clients use the name; the type inside repeats it, except in errors of some engines.
    if event.name:
        return event.name.decode(errors="replace")
    decoded = read(_DECODER, event.content)
    return "" if decoded is None else decoded.type


def _error_in(event: Event) -> Any:
    """Return the error object of an error event, which one engine sends without its wrapper."""
    decoded = read(_ANYTHING, event.content)
    if not isinstance(decoded, dict):
        return {"type": "api_error", "message": event.content.decode(errors="replace")}
    return decoded.get("error", decoded)


_ANYTHING: Final = msgspec.json.Decoder()


class CompletionScan(MessageScan):
    """Events of a text completion, the API before messages, of which the last has a stop reason."""

    __slots__ = ()

    @staticmethod
    def text_in(content: bytes) -> str:
        decoded = read(_COMPLETION, content)
        return decoded.completion if decoded is not None else ""

    def is_end(self, events: list[Event]) -> bool:
        return any((decoded := read(_COMPLETION, event.content)) and decoded.stop_reason for event in events)


class _Completion(msgspec.Struct):
    completion: str = ""
    stop_reason: str | None = None


_COMPLETION: Final = msgspec.json.Decoder(_Completion)
