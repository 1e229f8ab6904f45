"""The interface of a wire protocol, so that ``proxy`` needs no branch on a protocol's name."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from nexus.domain.request import Endpoint, Requirements, TokenUsage
from nexus.errors import RequestError
from nexus.wire.requests.prompt_blocks import Marking
from nexus.wire.streams.event import Event
from nexus.wire.streams.scan import StreamScan


class Collector(Protocol):
    """Merges a stream that was not requested into a document."""

    def add(self, event: Event) -> None:
        """Add the next event of the stream; an unreadable one is skipped."""

    def document(self) -> bytes | None:
        """Return the JSON document of the answer; None when the events make none."""


class Understand(Protocol):
    """Reads what a request requires."""

    def __call__(self, endpoint: Endpoint, body: bytes, marking: Marking | None = None, /) -> Requirements: ...


class WireProtocol(msgspec.Struct, frozen=True, kw_only=True):
    """One API, as a set of functions."""

    name: str
    endpoints: tuple[Endpoint, ...]
    understand: Understand
    """Reads what routing needs from a JSON body, with marks of its prompt if they are asked for. :raises RequestError:
    ``invalid_json``, ``invalid_value``, ``unsupported_parameter``, each with its ``param``."""
    open_stream: Callable[[Endpoint], StreamScan]
    usage_of: Callable[[bytes], TokenUsage | None]
    """Reads the usage of an answer that is not streamed; never raises."""
    load_s_of: Callable[[bytes], float | None] | None = None
    """Reads how long the model was loaded into memory, in seconds, from a document or the last event of a stream; None:
    no answer says so."""
    text_of: Callable[[bytes], str]
    """Reads the model's text in an answer that is not streamed; never raises."""
    looks_complete: Callable[[Endpoint, bytes], bool]
    """Whether an answer whose HTTP framing does not give its end is a complete document."""
    collector: Callable[[Endpoint], Collector | None]
    """Returns the collector of a stream that was not requested; None if the endpoint's events make no document."""
    as_stream: Callable[[Endpoint, bytes], bytes | None]
    """Converts a document into a whole stream, including its end mark; None if client libraries read the document as it
    is, or if it cannot be converted. Never raises."""
    encode_error: Callable[[RequestError, str], bytes]
    """Encodes an error as JSON; the second argument is the request id."""
    stream_type: str
    """The content type of a streamed answer: ``text/event-stream`` or ``application/x-ndjson``."""
