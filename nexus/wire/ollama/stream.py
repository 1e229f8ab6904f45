"""Watches a streamed answer."""

from typing import Final

import msgspec

from nexus.domain.request import TokenUsage
from nexus.wire.documents import is_given, read
from nexus.wire.errors.status import UNKNOWN
from nexus.wire.ollama.text import text_of
from nexus.wire.ollama.usage import usage_of
from nexus.wire.responses.nature import error_in
from nexus.wire.streams.event import Event, Purpose
from nexus.wire.streams.ndjson import LineFraming
from nexus.wire.streams.scan import StreamScan


class AnswerScan(StreamScan):
    """Lines of JSON, the last of them with ``done``."""

    __slots__ = ()

    error_mark = b'"error"'
    usage_mark = b'eval_count"'

    def __init__(self) -> None:
        super().__init__(LineFraming())

    text_in = staticmethod(text_of)

    def purpose(self, event: Event) -> Purpose:
        line = _decoded(event)
        if line is None:
            return Purpose.CONTENT
        if is_given(line.error):
            return Purpose.ERROR
        said = (line.response, line.thinking, *(line.message or {}).values())
        is_content = line.done or line.is_of_another_kind or any(is_given(value) for value in said)
        return Purpose.CONTENT if is_content else Purpose.LIFECYCLE

    def is_end(self, events: list[Event]) -> bool:
        last = _decoded(events[-1]) if events else None
        return last is not None and last.done

    def usage_in(self, event: Event) -> TokenUsage | None:
        return usage_of(event.content)

    def reply_of(self, error: Event) -> tuple[int, bytes]:
        return error_in(error.content) or UNKNOWN, error.content

    def failure(self, code: str, message: str) -> bytes:
        return msgspec.json.encode({"error": message, "code": code}) + b"\n"


class _Line(msgspec.Struct):
    message: dict[str, msgspec.Raw] | None = None
    response: msgspec.Raw = msgspec.Raw()
    thinking: msgspec.Raw = msgspec.Raw()
    done: bool = False
    error: msgspec.Raw = msgspec.Raw()

    @property
    def is_of_another_kind(self) -> bool:
        return self.message is None and not self.response


_DECODER: Final = msgspec.json.Decoder(_Line)


def _decoded(event: Event) -> _Line | None:
    line = read(_DECODER, event.content)
    if line is not None and line.message is not None:
        line.message.pop("role", None)
    return line
