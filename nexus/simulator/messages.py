"""Requests and answers as values, independent of their framing."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal

import msgspec

Part = Literal["start", "content", "finish", "end"]
"""The role of an event in a stream: ``finish`` carries the finish reason, ``end`` is the terminal marker."""


class Request(msgspec.Struct, frozen=True):
    """One HTTP request, as received."""

    method: str
    target: str
    """Path and query, as received."""
    raw_headers: tuple[tuple[bytes, bytes], ...]
    """In their original case and order."""
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def header(self, name: str) -> str:
        """Return the first header with this name, or an empty string."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.raw_headers if key.lower() == wanted), "")


class Event(msgspec.Struct, frozen=True):
    """One event of a stream, framed for its protocol."""

    wire: bytes
    part: Part = "content"


Events = AsyncGenerator[Event, None]


class Answer(msgspec.Struct, frozen=True):
    """The answer to a request: a complete body, or a stream of events."""

    body: bytes | Events
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    is_last: bool = False
    """Send ``Connection: close``, and close the connection afterwards."""


def json_answer(content: Any, status: int = 200, **options: Any) -> Answer:
    return Answer(msgspec.json.encode(content), status, **options)


def text_answer(text: str, status: int = 200) -> Answer:
    return Answer(text.encode(), status, "text/plain; charset=utf-8")


def sse_answer(events: Events) -> Answer:
    return Answer(events, content_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def ndjson_answer(events: Events) -> Answer:
    return Answer(events, content_type="application/x-ndjson")


def data_event(content: Any, part: Part = "content") -> Event:
    """Frame *content* as a server-sent event without a name."""
    return Event(b"data: " + msgspec.json.encode(content) + b"\n\n", part)


def named_event(content: Mapping[str, Any], part: Part = "content") -> Event:
    """Frame *content* as a server-sent event whose name is its ``type``."""
    return Event(b"event: %b\ndata: %b\n\n" % (content["type"].encode(), msgspec.json.encode(content)), part)


def line_event(content: Any, part: Part = "content") -> Event:
    """Frame *content* as a line of NDJSON."""
    return Event(msgspec.json.encode(content) + b"\n", part)
