"""Converts a stream into a document, and a document into a line."""

from typing import Any, Final

import msgspec

from nexus.domain.request import Endpoint
from nexus.wire.documents import ANY_OBJECT, is_whole, read
from nexus.wire.protocol import Collector
from nexus.wire.streams.event import Event
from nexus.wire.streams.merging import joined, merge


class LineCollector:
    """Merges the texts of all lines into the last one."""

    def __init__(self) -> None:
        self._merged: dict[str, Any] = {}
        self._last: dict[str, Any] | None = None

    def add(self, event: Event) -> None:
        line = read(ANY_OBJECT, event.content)
        if line is None:
            return
        # Each line has whole calls, whose arguments keep their bytes.
        if b'"tool_calls"' in event.content and (calling := read(_CALLING, event.content)) is not None:
            line["message"]["tool_calls"] = calling.message.tool_calls
        merge(self._merged, {name: line[name] for name in _CONTINUED if line.get(name) is not None})
        self._last = line

    def document(self) -> bytes | None:
        return None if self._last is None else msgspec.json.encode({**self._last, **joined(self._merged)})


_CONTINUED: Final = ("message", "response", "thinking")
"""The members that later lines continue; the last line has the final value of all others."""


class _Calls(msgspec.Struct):
    tool_calls: list[msgspec.Raw]


class _Calling(msgspec.Struct):
    message: _Calls


_CALLING: Final = msgspec.json.Decoder(_Calling)


def collector(endpoint: Endpoint) -> Collector | None:
    return LineCollector() if endpoint.streams_by_default else None


def as_stream(endpoint: Endpoint, body: bytes) -> bytes | None:
    """Return *body* as one line; None if it is one already, as Ollama answers a request that only loads."""
    body = body.strip()
    if not endpoint.streams_by_default or b"\n" not in body or not is_whole(body):
        return None
    # Line ends occur only between members: in a text they would be escaped.
    return body.replace(b"\r", b"").replace(b"\n", b"") + b"\n"
