"""Makes Ollama's document of a stream that was not asked for, and a line of a document."""

from typing import Any, Final

import msgspec

from nexus.domain.request import Endpoint
from nexus.wire.documents import is_whole, read
from nexus.wire.protocol import Collector
from nexus.wire.streams.event import Event
from nexus.wire.streams.merging import joined, merge


class LineCollector:
    """Merges what the lines say into the last of them."""

    def __init__(self) -> None:
        self._said: dict[str, Any] = {}
        self._last: dict[str, Any] | None = None

    def add(self, event: Event) -> None:
        line = read(_OBJECT, event.content)
        if line is None:
            return
        merge(self._said, {name: line[name] for name in _SAID if line.get(name) is not None})
        self._last = line

    def document(self) -> bytes | None:
        return None if self._last is None else msgspec.json.encode({**self._last, **joined(self._said)})


_SAID: Final = ("message", "response", "thinking")
"""The members that a later line continues; of all others the last line has the right value."""
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])


def collector(endpoint: Endpoint) -> Collector | None:
    """Return what collects a stream of *endpoint*; None when there is no document to be made of it."""
    return LineCollector() if endpoint.streams_by_default else None


def as_stream(endpoint: Endpoint, body: bytes) -> bytes | None:
    """Return *body* as one line; None when it is one: clients read it, as Ollama itself answers when it only loads."""
    body = body.strip()
    if not endpoint.streams_by_default or b"\n" not in body or not is_whole(body):
        return None
    # Line ends stand between members: in a text they would be escaped.
    return body.replace(b"\r", b"").replace(b"\n", b"") + b"\n"
