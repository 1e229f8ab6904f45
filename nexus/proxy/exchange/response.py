"""Holds the response of a backend back until its first byte may go to the client."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

import msgspec

from nexus.domain.statuses import FIRST_ERROR
from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError
from nexus.proxy.exchange.expected_response import DOCUMENT_TYPE, UNREADABLE, ExpectedResponse, Mode
from nexus.proxy.exchange.response_memory import MAX_HELD_BYTES, UNCOUNTED_BYTES, MemoryShare
from nexus.proxy.upstream.connection import UpstreamConnection
from nexus.proxy.upstream.response_parser import WITHOUT_BODY, HeaderList, ResponseHead
from nexus.wire.protocol import Collector
from nexus.wire.responses.nature import Nature, error_in, nature_of
from nexus.wire.streams.event_buffer import EventTooLargeError
from nexus.wire.streams.scan import StreamScan

if TYPE_CHECKING:
    from nexus.proxy.exchange.relay import StreamRelay

COMMIT_HOLD_S: Final = 0.5
"""How long events and comments without content are held back, while another backend can still be tried."""

TOO_LARGE: Final = (
    "an event of its stream is longer than limits.max_event_bytes,"
    " or than what limits.max_buffered_event_bytes has left"
)

_NO_HEAD: Final = ResponseHead(0, [])
_STREAM_LABELS: Final = ("events", "lines")
_CONTRADICTED: Final = (*_STREAM_LABELS, "page")
"""Labels under which client libraries would not read a document: it is relabelled."""
_EMPTY_STATUS: Final = WITHOUT_BODY | {205}


class Response(msgspec.Struct, eq=False):
    """The sink of one upstream connection.

    ``ready`` is resolved once: with None when the answer may go to the client, with an
    :class:`~nexus.errors.UpstreamError` when nothing of it may, so that another backend can still be tried.
    """

    loop: asyncio.AbstractEventLoop
    ready: asyncio.Future[None]
    connection: UpstreamConnection
    expected: ExpectedResponse
    mode: Mode = "waiting"
    status: int = 0
    head: ResponseHead = _NO_HEAD
    held: list[bytes] = []
    first_byte_at: float | None = None
    content_at: float | None = None
    last_content_at: float | None = None
    """When content was last relayed; the events that end the stream count as content."""
    is_ended: bool = False
    is_framed: bool = True
    """Whether the framing marked the end of the body; False: the connection closed, and no more."""
    nature: Nature | None = None
    """None until enough of the body has arrived to tell."""
    undecided: bytearray = msgspec.field(default_factory=bytearray)
    """The part of the body that arrived before its nature was known."""
    opened_scan: StreamScan | None = None
    collector: Collector | None = None
    """Makes a document of a stream that was not asked for."""
    held_bytes: int = 0
    share: MemoryShare = msgspec.field(default_factory=MemoryShare)
    hold_timer: asyncio.TimerHandle | None = None
    failed: tuple[UpstreamFault, str] | None = None
    on_content: Callable[[float], None] | None = None
    """Called with the time of the first content if the reply began before that."""

    @property
    def is_streamed(self) -> bool:
        """Whether the backend sends a stream, or was asked for one."""
        return self.expected.asked.is_stream or self.nature in ("events", "lines")

    @property
    def headers(self) -> HeaderList:
        return self.head.headers

    @property
    def scan(self) -> StreamScan:
        """What reads the body as it arrives; a document, which is held back whole, has none."""
        if self.opened_scan is None:
            raise LookupError("a document has no scan")
        return self.opened_scan

    @property
    def body(self) -> bytes:
        """The part of the body that is held back."""
        self.held = [b"".join(self.held)]  # joining one part copies nothing
        return self.held[0]

    @property
    def begun_at(self) -> float | None:
        """When the first content of a stream arrived, or the first byte of another response; None before that."""
        return self.content_at if self.mode == "events" else self.content_at or self.first_byte_at

    def looks_complete(self) -> bool:
        """Whether a body whose framing does not give its end is a complete document."""
        return self.expected.protocol.looks_complete(self.expected.endpoint, self.body)

    def give_up_waiting(self, error: UpstreamError | None = None) -> None:
        """Fail with *error*; without one, because the response did not begin in time."""
        if not self.ready.done():
            late = UpstreamError(UpstreamFault.FIRST_BYTE_TIMEOUT, "the answer did not begin in time")
            self.ready.set_exception(error or late)

    def dismiss(self) -> None:
        """Stop the timer and the scan: nothing more is expected."""
        self.on_content = None
        if self.hold_timer is not None:
            self.hold_timer.cancel()
        if self.opened_scan is not None:
            self.opened_scan.release()
        if not self.ready.done():
            self.ready.cancel()
        elif not self.ready.cancelled():
            # asyncio would log a failure that nothing has retrieved.
            self.ready.exception()

    def hand_over(self, relay: "StreamRelay") -> None:
        """Pass what is held, and all that follows, to *relay*."""
        held, self.held = self.held[::-1], []
        while held and relay.code is None:
            relay.forward(held.pop())
        if relay.code is not None:
            # It was cut, and has abandoned the connection.
            return
        if self.failed is not None:
            relay.on_failed(*self.failed)
        elif self.is_ended:
            relay.on_end(is_framed=self.is_framed)
        else:
            self.connection.pass_to(relay)

    def forget(self) -> None:
        """Drop what is held, and give its memory back."""
        self.held = []
        if self.share.taken_bytes:
            self.share.give_back()

    def note_content(self) -> None:
        """Note that the first content has arrived."""
        self.content_at = monotonic()
        if self.on_content is not None:
            self.on_content(self.content_at)

    # ResponseSink, until the relay takes over

    def on_head(self, head: ResponseHead) -> None:
        self.head = head
        self.status = head.status
        self.first_byte_at = monotonic()
        try:
            label = head.label
        except UpstreamError as exc:
            self._refuse(exc)
            return
        if head.status >= FIRST_ERROR or head.status in WITHOUT_BODY:
            self.nature, self.mode = "document", "whole"
        elif label == "opaque" or self.expected.endpoint.answers_bytes:
            self._become("opaque")
        elif label in _STREAM_LABELS and self.expected.asked.is_stream:
            # Probably a stream: the body will tell.
            self._watch()
        else:
            self.mode = "whole"

    def on_body(self, data: bytes) -> None:
        if self.nature is None:
            data = self._decide(data)
            if not data:
                return
        if self.collector is not None:
            self._collect(data)
            return
        scan = self.opened_scan
        if scan is not None and self.mode == "events":
            try:
                data = scan.feed(data)
            except EventTooLargeError:
                self._fail_too_large()
                return
            if not data:
                return
            if self.content_at is None and scan.has_content:
                self.note_content()
        self._hold(data)

    def on_end(self, *, is_framed: bool) -> None:
        self.is_ended = True
        self.is_framed = is_framed
        if self.nature is None and (left := self._decide(b"", is_all=True)):
            self.on_body(left)
        if self.ready.done():
            return
        if self.collector is not None:
            self._end_collecting(self.collector)
        elif self.mode != "events":
            self._judge_document()
        elif self.held and self.scan.is_finished():
            self._be_ready()
        elif error := self.scan.error_in_rest():
            self._become_error(*error)
        else:
            self._refuse(UpstreamError(UpstreamFault.TRUNCATED, "the stream ended before it said anything"))

    def on_failed(self, fault: UpstreamFault, message: str) -> None:
        if self.ready.done():
            self.failed = fault, message
        else:
            self.ready.set_exception(UpstreamError(fault, message))

    # what kind of body it is

    def _decide(self, data: bytes, *, is_all: bool = False) -> bytes:
        """Decide what kind of body it is, and return all of it so far; while undecided, nothing."""
        undecided = self.undecided
        if undecided or not data:
            undecided += data
            data = bytes(undecided)
        nature = nature_of(self.expected.asked, self.head.label, data, is_all=is_all)
        if nature is None:
            if not undecided:
                undecided += data
            if len(undecided) <= MAX_HELD_BYTES:
                return b""
            nature = "document"
        undecided.clear()
        self._become(nature)
        return data if self.nature is not None and not self.ready.done() else b""

    def _become(self, nature: Nature) -> None:
        expected = self.expected
        self.nature = nature
        if nature == "document":
            self.mode = "whole"
            if self.head.label in _CONTRADICTED:
                self.head = self.head.typed(DOCUMENT_TYPE)
        elif nature == "opaque" and expected.max_bytes is not None:
            self._refuse(UpstreamError(UpstreamFault.PROTOCOL, UNREADABLE))
        elif nature == "opaque":
            self.mode = "opaque"
            self.opened_scan = expected.open_scan()
        elif nature == "page":
            self._refuse(UpstreamError(UpstreamFault.PROTOCOL, "answered with a web page"))
        elif nature is not expected.expected_stream:
            self._refuse(UpstreamError(UpstreamFault.PROTOCOL, "answered with a stream of another protocol"))
        elif expected.reads_stream:
            self._watch()
            if self.head.label not in _STREAM_LABELS:
                self.head = self.head.typed(expected.stream_type)
        else:
            self._begin_collecting()

    def _watch(self) -> None:
        self.mode = "events"
        if self.opened_scan is None:
            self.opened_scan = self.expected.open_scan()

    def _judge_document(self) -> None:
        """Release a whole document, unless it is an error with the status of a success."""
        expected, body = self.expected, self.body
        if self.status >= FIRST_ERROR or self.mode != "whole":
            self._be_ready()
        elif (status := error_in(body, is_kept=expected.endpoint.capability == "keep")) is not None:
            self._become_error(status, body)
        elif expected.asked.is_stream and not body and self.status not in _EMPTY_STATUS:
            self._refuse(UpstreamError(UpstreamFault.TRUNCATED, "the stream ended before it said anything"))
        else:
            if expected.asked.is_stream and (events := expected.protocol.as_stream(expected.endpoint, body)):
                self._become_stream(events)
            self._be_ready()

    def _become_stream(self, events: bytes) -> None:
        scan = self.expected.open_scan()
        try:
            events = scan.feed(events)
        except EventTooLargeError:
            # It can still be sent as a document.
            return
        self.opened_scan, self.mode, self.nature = scan, "events", self.expected.expected_stream
        self.head = self.head.typed(self.expected.stream_type)
        self.held = [events]
        self.content_at = monotonic()

    # a stream that was not asked for

    def _begin_collecting(self) -> None:
        expected = self.expected
        self.mode = "whole"
        self.collector = expected.protocol.collector(expected.endpoint)
        if self.collector is None:
            self._refuse(UpstreamError(UpstreamFault.PROTOCOL, "answered with a stream that was not asked for"))
            return
        self.opened_scan = expected.open_scan()
        self.opened_scan.show(self.collector.add)

    def _collect(self, data: bytes) -> None:
        self.held_bytes += len(data)
        try:
            self.scan.feed(data)
        except EventTooLargeError:
            self._fail_too_large()
            return
        if error := self.scan.first_error():
            self._become_error(*error)
        elif self.held_bytes > MAX_HELD_BYTES:
            self._refuse(UpstreamError(UpstreamFault.PROTOCOL, "answered with a long stream that was not asked for"))

    def _end_collecting(self, collector: Collector) -> None:
        scan = self.scan
        if error := scan.error_in_rest():
            self._become_error(*error)
            return
        # Some servers omit the line ends after their last event.
        scan.feed(b"\n\n")
        document = collector.document() if scan.is_finished() else None
        if document is None:
            fault = UpstreamFault.IN_STREAM_ERROR if scan.has_error else UpstreamFault.TRUNCATED
            status = 502 if scan.has_error else None
            self._refuse(
                UpstreamError(fault, "a stream that was not asked for ended early or in an error", status=status)
            )
            return
        self.head = self.head.typed(DOCUMENT_TYPE)
        self.held = [document]
        self.is_framed = True
        self._judge_document()

    # when it may go to the client

    def _hold(self, data: bytes) -> None:
        self.held.append(data)
        self.held_bytes += len(data)
        if self.ready.done():
            return
        if self.mode == "events":
            self._judge_events(data)
            return
        if self.mode == "whole" and self.held_bytes > UNCOUNTED_BYTES and not self._may_hold():
            self._become("opaque")
        if self.mode == "opaque":
            self.content_at = monotonic()
            self._be_ready()

    def _may_hold(self) -> bool:
        # However little memory is left, an error is held whole: it must be read before a client may see it.
        held_bytes = self.held_bytes
        has_room = self.share.grows_to(held_bytes) or self.status >= FIRST_ERROR
        return has_room and held_bytes <= (self.expected.max_bytes or MAX_HELD_BYTES)

    def _judge_events(self, data: bytes) -> None:
        if error := self.scan.first_error():
            self._become_error(*error)
        elif self.scan.has_content:
            self._be_ready()
        elif self.hold_timer is None and data.strip():
            # Comments are released as well, after the hold: they show an impatient client that an answer is coming.
            self.hold_timer = self.loop.call_later(COMMIT_HOLD_S, self._release_hold)
        elif self.held_bytes > MAX_HELD_BYTES:
            self._refuse(UpstreamError(UpstreamFault.PROTOCOL, "the stream is long and has no content"))

    def _become_error(self, status: int, body: bytes) -> None:
        """Become the error response that this should have been, as nothing of it has gone to the client yet."""
        self.status = status
        self.mode = "whole"
        self.head = ResponseHead(status, self.head.typed(DOCUMENT_TYPE).headers)
        self.held = [body]
        self.is_ended = True
        self._refuse(UpstreamError(UpstreamFault.IN_STREAM_ERROR, "it answered with an error instead", status=status))

    def _release_hold(self) -> None:
        # The content that lifecycle events announce has had long enough to arrive.
        if not self.ready.done():
            self._be_ready()

    def _fail_too_large(self) -> None:
        self.connection.abandon()
        self.on_failed(UpstreamFault.EVENT_TOO_LARGE, TOO_LARGE)

    def _be_ready(self) -> None:
        if not self.is_ended:
            self.connection.pause_reading()  # until it is relayed: one turn of the event loop may read megabytes
        self.ready.set_result(None)
        self.connection.wakes()

    def _refuse(self, error: UpstreamError) -> None:
        self.connection.abandon()
        if not self.ready.done():
            self.ready.set_exception(error)
