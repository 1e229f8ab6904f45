"""What every wire protocol offers: one value, so that ``proxy`` needs no branch on a protocol's name."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from nexus.domain.request import Endpoint, Requirements, TokenUsage
from nexus.errors import RequestError
from nexus.wire.streams.event import Event
from nexus.wire.streams.event_buffer import EventRoom


class StreamScan(Protocol):
    """Watches one streamed answer pass, without changing a byte of it.

    It is fed the body's bytes however they are cut, and gives back whole events, so that the client never sees half of
    one. On the hot path: a call for a block of events costs about a microsecond and decodes nothing.
    """

    has_content: bool
    """Whether an event given back so far carries content: not a comment, a ping, a role or another lifecycle frame."""
    has_error: bool
    """Whether an event given back so far is an error."""
    data_blocks: int
    """Grows whenever a call gives back at least one event that is not a comment; what the idle deadline watches."""

    def feed(self, data: bytes) -> bytes:
        """Return the whole events that are complete now, byte for byte; the rest is kept back.

        :raises EventTooLargeError: when one event is longer than its room allows.
        """

    def bound(self, room: EventRoom) -> None:
        """Let *room* bound the event that is being put together, instead of the default for one stream alone."""

    def listen(self, tell: Callable[[str], None]) -> None:
        """Let *tell* have the text of the answer, event by event, as :meth:`feed` gives it back.

        To be called before the first :meth:`feed`. It costs a decoding of every event, so only who needs it asks.
        """

    def show(self, see: Callable[[Event], None]) -> None:
        """Call *see* with every event, as :meth:`feed` gives it back; under the same conditions as :meth:`listen`."""

    def is_finished(self) -> bool:
        """Whether what was given back ends as a finished answer does in this protocol."""

    def closing(self) -> bytes:
        """Return what a cleanly ended and finished answer still lacks, such as ``data: [DONE]``; mostly nothing."""

    def failure(self, code: str, message: str) -> bytes:
        """Return the error event that ends this answer instead of what the backend did not send."""

    def first_error(self) -> tuple[int, bytes] | None:
        """When the very first data event was an error: the HTTP status it stands for, and its error body as sent."""

    def error_in_rest(self) -> tuple[int, bytes] | None:
        """Say the same, at the end of the stream, of an event that lacks only its line ends when it is the only one."""

    def release(self) -> None:
        """Drop what is kept of an event that is not complete: nothing more will be fed."""

    def usage(self) -> TokenUsage | None:
        """Return the last usage seen, never a sum; None when there was none."""

    def estimated_tokens(self) -> int:
        """Return about how many tokens the answer had so far, by its events and their size."""


class Collector(Protocol):
    """Makes the document of a stream that was not asked for."""

    def add(self, event: Event) -> None:
        """Take the next event of the stream; one that cannot be read is skipped."""

    def document(self) -> bytes | None:
        """Return the JSON document that an answer without a stream would have been; None when nothing makes one."""


class WireProtocol(msgspec.Struct, frozen=True, kw_only=True):
    """The API of one family of clients."""

    name: str
    endpoints: tuple[Endpoint, ...]
    understand: Callable[[Endpoint, bytes], Requirements]
    """Read what routing needs of a JSON body. :raises RequestError: ``invalid_json``, ``invalid_value``,
    ``unsupported_parameter``, each with its ``param``."""
    open_stream: Callable[[Endpoint], StreamScan]
    usage_of: Callable[[bytes], TokenUsage | None]
    """Read the usage of a whole, non-streamed answer; never raises."""
    text_of: Callable[[bytes], str]
    """Read what the model says in a whole, non-streamed answer; never raises."""
    looks_complete: Callable[[Endpoint, bytes], bool]
    """Whether a non-streamed answer whose framing says nothing of its end is a whole document."""
    collector: Callable[[Endpoint], Collector | None]
    """Make what collects a stream that was not asked for; None where the events of an endpoint make no document."""
    as_stream: Callable[[Endpoint, bytes], bytes | None]
    """Make the whole stream that a document stands for, its end mark included; None where the client's libraries read
    the document as it is, or where it is none that can be told as events. Never raises."""
    encode_error: Callable[[RequestError, str], bytes]
    """Make the JSON body of an error; the second argument is the request id."""
    stream_type: Callable[[Endpoint], str]
    """The content type of a streamed answer: ``text/event-stream`` or ``application/x-ndjson``."""
