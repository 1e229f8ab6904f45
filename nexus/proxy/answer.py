"""What one backend answers to one attempt, up to the moment when its first byte may go to the client."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

import msgspec

from nexus.errors import UpstreamError, UpstreamFault
from nexus.proxy.answer_head import AnswerHead, HeaderList, Mode
from nexus.proxy.headers import refuse_bad_head
from nexus.proxy.upstream import UpstreamConnection
from nexus.wire.protocol import EventTooLargeError, StreamScan

MAX_HELD_BYTES: Final = 8 * 1024 * 1024
"""A longer answer that is not streamed is passed on as it comes, and can then no longer be tried elsewhere."""

COMMIT_HOLD_S: Final = 0.5
"""How long events that carry no content are held back: until one does, another backend can still be tried."""

TOO_LARGE: Final = "an event of the stream is too long"

FIRST_ERROR: Final = 400

_NO_HEAD: Final = AnswerHead(0, [])


class Relay(Protocol):
    """Who takes over once the answer has begun."""

    def forward(self, data: bytes) -> None:
        """Pass on *data*: whole events if the answer is made of events."""

    def finish(self) -> None: ...

    def break_off(self, fault: UpstreamFault, message: str) -> None: ...


class Answer(msgspec.Struct, eq=False):
    """The sink of one upstream connection.

    ``ready`` is resolved once: with None when the answer may go to the client, with an
    :class:`~nexus.errors.UpstreamError` when nothing of it may, so that another backend can still be tried.
    """

    loop: asyncio.AbstractEventLoop
    ready: asyncio.Future[None]
    connection: UpstreamConnection
    open_scan: Callable[[], StreamScan]
    """Makes what watches the answer, should it come bit by bit."""
    wants_stream: bool
    is_opaque: bool = False
    """Whether it is something that a client once stored, which may look like anything."""
    mode: Mode = Mode.WAITING
    status: int = 0
    head: AnswerHead = _NO_HEAD
    held: list[bytes] = []
    first_byte_at: float | None = None
    content_at: float | None = None
    last_content_at: float | None = None
    """Of what was relayed; with the events that end it."""
    is_ended: bool = False
    is_framed: bool = True
    """Whether the end of the answer was marked, or only the connection closed."""
    opened_scan: StreamScan | None = None
    held_bytes: int = 0
    hold_timer: asyncio.TimerHandle | None = None
    failed: tuple[UpstreamFault, str] | None = None
    relay: Relay | None = None

    @property
    def headers(self) -> HeaderList:
        return self.head.headers

    @property
    def scan(self) -> StreamScan:
        """What watches it; only of an answer that is not held back whole."""
        if self.opened_scan is None:
            raise LookupError("a whole answer is not watched")
        return self.opened_scan

    @property
    def body(self) -> bytes:
        """What is held back so far."""
        return self.held[0] if len(self.held) == 1 else b"".join(self.held)

    @property
    def begun_at(self) -> float | None:
        """When its first content came, or of an answer that is no stream its first byte; None before that."""
        return self.content_at if self.mode is Mode.EVENTS else self.content_at or self.first_byte_at

    def give_up_waiting(self) -> None:
        """Fail: it has not begun in time."""
        if not self.ready.done():
            fault = UpstreamFault.FIRST_BYTE_TIMEOUT
            self.ready.set_exception(UpstreamError(fault, "the answer did not begin in time"))

    def dismiss(self) -> None:
        """Expect nothing more of it."""
        if self.hold_timer is not None:
            self.hold_timer.cancel()
        if not self.ready.done():
            self.ready.cancel()
        elif not self.ready.cancelled():
            # A failure that nobody will read any more must not be reported as one that was overlooked.
            self.ready.exception()

    def attach(self, relay: Relay) -> None:
        """Hand what is held, and all that follows, to *relay*."""
        self.relay = relay
        held, self.held = self.held, []
        for data in held:
            relay.forward(data)
        if self.failed is not None:
            relay.break_off(*self.failed)
        elif self.is_ended:
            relay.finish()

    def detach(self) -> None:
        """Forget who took over."""
        self.relay = None

    # AnswerSink

    def on_head(self, head: AnswerHead) -> None:
        self.head = head
        self.status = head.status
        self.first_byte_at = monotonic()
        try:
            mode = self._mode_of(head)
        except UpstreamError as exc:
            self._refuse(exc)
            return
        if mode is Mode.EVENTS and not self.wants_stream:
            self._refuse(UpstreamError(UpstreamFault.PROTOCOL, "answered with a stream that was not asked for"))
            return
        self.mode = mode
        if mode is not Mode.WHOLE:
            self.opened_scan = self.open_scan()

    def _mode_of(self, head: AnswerHead) -> Mode:
        """Return how *head* says that the body is to be treated. :raises UpstreamError: PROTOCOL."""
        if not self.is_opaque or head.status >= FIRST_ERROR:
            return head.mode
        refuse_bad_head(head.status, head.headers)
        return Mode.OPAQUE

    def on_body(self, data: bytes) -> None:
        scan = self.opened_scan
        if scan is not None and self.mode is Mode.EVENTS:
            try:
                data = scan.feed(data)
            except EventTooLargeError:
                self.connection.abandon()
                self.on_failed(UpstreamFault.PROTOCOL, TOO_LARGE)
                return
            if not data:
                return
            if self.content_at is None and scan.has_content:
                self.content_at = monotonic()
        if self.relay is not None:
            self.relay.forward(data)
        else:
            self._hold(data)

    def on_end(self, *, is_framed: bool) -> None:
        self.is_ended = True
        self.is_framed = is_framed
        if self.relay is not None:
            self.relay.finish()
        elif self.ready.done():
            return
        elif self.mode is Mode.EVENTS and not (self.held and self.scan.is_finished()):
            self._refuse(UpstreamError(UpstreamFault.TRUNCATED, "the stream ended before it said anything"))
        else:
            self._be_ready()

    def on_failed(self, fault: UpstreamFault, message: str) -> None:
        if self.relay is not None:
            self.relay.break_off(fault, message)
        elif self.ready.done():
            self.failed = fault, message
        else:
            self.ready.set_exception(UpstreamError(fault, message))

    def _hold(self, data: bytes) -> None:
        self.held.append(data)
        self.held_bytes += len(data)
        if self.ready.done():
            return
        if self.mode is Mode.EVENTS:
            self._judge_events()
            return
        if self.mode is Mode.WHOLE and self.held_bytes > MAX_HELD_BYTES:
            self.mode = Mode.OPAQUE
            self.opened_scan = self.open_scan()
        if self.mode is Mode.OPAQUE:
            self.content_at = monotonic()
            self._be_ready()

    def _judge_events(self) -> None:
        if error := self.scan.first_error():
            self._become_error(*error)
        elif self.scan.has_content:
            self._be_ready()
        elif self.hold_timer is None and self.scan.data_blocks:
            self.hold_timer = self.loop.call_later(COMMIT_HOLD_S, self._release_hold)
        elif self.held_bytes > MAX_HELD_BYTES:
            self._refuse(UpstreamError(UpstreamFault.PROTOCOL, "the stream says much and answers nothing"))

    def _become_error(self, status: int, body: bytes) -> None:
        """Be the answer that the stream should have been: nothing of it has gone to the client yet."""
        self.status = status
        self.mode = Mode.WHOLE
        others = self.head.without(b"content-type").headers
        self.head = AnswerHead(status, [*others, (b"Content-Type", b"application/json")])
        self.held = [body]
        self.is_ended = True
        self._refuse(UpstreamError(UpstreamFault.IN_STREAM_ERROR, "the stream began with an error", status=status))

    def _release_hold(self) -> None:
        # Lifecycle events have waited long enough for the content that they announce.
        if not self.ready.done():
            self._be_ready()

    def _be_ready(self) -> None:
        self.ready.set_result(None)
        self.connection.wakes()

    def _refuse(self, error: UpstreamError) -> None:
        self.connection.abandon()
        if not self.ready.done():
            self.ready.set_exception(error)
