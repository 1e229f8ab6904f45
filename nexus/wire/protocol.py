"""The interface of a wire protocol, so that ``proxy`` needs no branch on a protocol's name."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from nexus.domain.request import Endpoint, Requirements, TokenUsage
from nexus.errors import RequestError
from nexus.wire.streams.event import Event
from nexus.wire.streams.event_buffer import EventRoom


class StreamScan(Protocol):
    """Watches one streamed answer, without changing a byte of it.

    It takes the body in pieces of any size and returns whole events, so that the client never gets half of one. This is
    the hot path: a call for a block of events costs about a microsecond and decodes nothing.
    """

    has_content: bool
    """Whether an event returned so far has content: not a comment, a ping, a role or another lifecycle event."""
    has_error: bool
    """Whether an event returned so far is an error."""
    data_blocks: int
    """Incremented by each call that returns an event other than a comment, for the idle deadline."""

    def feed(self, data: bytes) -> bytes:
        """Return the events that are complete now, byte for byte; the rest is buffered.

        :raises EventTooLargeError: an event is longer than its room allows.
        """

    def bound(self, room: EventRoom) -> None:
        """Let *room* bound the incomplete event, instead of the default for a single stream."""

    def listen(self, tell: Callable[[str], None]) -> None:
        """Call *tell* with the text of each event that :meth:`feed` returns.

        Must be called before the first :meth:`feed`. Every event is then decoded, so use it only if needed.
        """

    def show(self, see: Callable[[Event], None]) -> None:
        """Call *see* with each event that :meth:`feed` returns; under the same conditions as :meth:`listen`."""

    def is_finished(self) -> bool:
        """Whether the events returned so far end a complete answer."""

    def closing(self) -> bytes:
        """Return what a complete answer lacks at the end of its stream, such as ``data: [DONE]``; usually empty."""

    def failure(self, code: str, message: str) -> bytes:
        """Return the error event that ends this answer in place of what the backend did not send."""

    def first_error(self) -> tuple[int, bytes] | None:
        """Return HTTP status and body of the error that was the first event; None when it was no error."""

    def error_in_rest(self) -> tuple[int, bytes] | None:
        """Return the same at the end of the stream, if its only event is an error without its final line ends."""

    def release(self) -> None:
        """Drop the incomplete event: nothing more will be fed."""

    def usage(self) -> TokenUsage | None:
        """Return the last reported usage, never a sum; None when there was none."""

    def estimated_tokens(self) -> int:
        """Estimate the tokens of the answer so far, by its events and their size."""


class Collector(Protocol):
    """Merges a stream that was not requested into a document."""

    def add(self, event: Event) -> None:
        """Add the next event of the stream; an unreadable one is skipped."""

    def document(self) -> bytes | None:
        """Return the JSON document of the answer; None when the events make none."""


class WireProtocol(msgspec.Struct, frozen=True, kw_only=True):
    """One API, as a set of functions."""

    name: str
    endpoints: tuple[Endpoint, ...]
    understand: Callable[[Endpoint, bytes], Requirements]
    """Reads what routing needs from a JSON body. :raises RequestError: ``invalid_json``, ``invalid_value``,
    ``unsupported_parameter``, each with its ``param``."""
    open_stream: Callable[[Endpoint], StreamScan]
    usage_of: Callable[[bytes], TokenUsage | None]
    """Reads the usage of an answer that is not streamed; never raises."""
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
