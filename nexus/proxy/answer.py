"""What one backend answers to one attempt, up to the moment when its first byte may go to the client."""

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from time import monotonic
from typing import Final, Protocol

from nexus.errors import UpstreamError, UpstreamFault
from nexus.proxy.headers import refuse_bad_head
from nexus.proxy.upstream import HeaderList, UpstreamConnection
from nexus.wire.protocol import EventTooLargeError, StreamScan

MAX_HELD_BYTES: Final = 8 * 1024 * 1024
"""A longer answer that is not streamed is passed on as it comes, and can then no longer be tried elsewhere."""

COMMIT_HOLD_S: Final = 0.5
"""How long events that carry no content are held back: until one does, another backend can still be tried."""

TOO_LARGE: Final = "an event of the stream is too long"

_EVENT_TYPES: Final = (b"text/event-stream", b"application/x-ndjson", b"application/jsonl")
_WHOLE_TYPES: Final = (b"application/json", b"application/problem+json", b"text/")


class Mode(Enum):
    """How the answer's bytes are treated."""

    WAITING = auto()
    """Its head has not come."""
    WHOLE = auto()
    """Held back until it is complete, then sent in one piece."""
    EVENTS = auto()
    """Watched event by event; held back until the first that carries content."""
    OPAQUE = auto()
    """Passed on as it comes: binary, compressed, or longer than is held."""


class Relay(Protocol):
    """Who takes over once the answer has begun."""

    def forward(self, data: bytes) -> None:
        """Pass on *data*: whole events if the answer is made of events."""

    def finish(self) -> None: ...

    def break_off(self, fault: UpstreamFault, message: str) -> None: ...


class Answer:
    """The sink of one upstream connection.

    ``ready`` is resolved once: with None when the answer may go to the client, with an
    :class:`~nexus.errors.UpstreamError` when nothing of it may, so that another backend can still be tried.
    """

    __slots__ = (
        "_connection",
        "_failed",
        "_held_bytes",
        "_hold_timer",
        "_open_scan",
        "_relay",
        "content_at",
        "first_byte_at",
        "headers",
        "held",
        "is_ended",
        "is_framed",
        "last_content_at",
        "loop",
        "mode",
        "ready",
        "scan",
        "status",
        "wants_stream",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: UpstreamConnection,
        open_scan: Callable[[], StreamScan],
        *,
        wants_stream: bool,
    ) -> None:
        """:param open_scan: makes what watches the answer, should it come bit by bit."""
        self.loop = loop
        self.ready: asyncio.Future[None] = self.loop.create_future()
        self.scan: StreamScan
        """Only of an answer that is not held back whole."""
        self._open_scan = open_scan
        self.wants_stream = wants_stream
        self.mode = Mode.WAITING
        self.status = 0
        self.headers: HeaderList = []
        self.held: list[bytes] = []
        self.first_byte_at: float | None = None
        self.content_at: float | None = None
        self.last_content_at: float | None = None
        """Of what was relayed; with the events that end it."""
        self._connection = connection
        self._held_bytes = 0
        self._hold_timer: asyncio.TimerHandle | None = None
        self.is_ended = False
        self.is_framed = True
        """Whether the end of the answer was marked, or only the connection closed."""
        self._failed: tuple[UpstreamFault, str] | None = None
        self._relay: Relay | None = None

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
        if self._hold_timer is not None:
            self._hold_timer.cancel()
        if not self.ready.done():
            self.ready.cancel()
        elif not self.ready.cancelled():
            # A failure that nobody will read any more must not be reported as one that was overlooked.
            self.ready.exception()

    def attach(self, relay: Relay) -> None:
        """Hand what is held, and all that follows, to *relay*."""
        self._relay = relay
        held, self.held = self.held, []
        for data in held:
            relay.forward(data)
        if self._failed is not None:
            relay.break_off(*self._failed)
        elif self.is_ended:
            relay.finish()

    def detach(self) -> None:
        """Forget who took over."""
        self._relay = None

    # AnswerSink

    def on_head(self, status: int, headers: HeaderList) -> None:
        self.status = status
        self.headers = headers
        self.first_byte_at = monotonic()
        try:
            refuse_bad_head(status, headers)
            self.mode = self._choose_mode()
        except UpstreamError as exc:
            self._refuse(exc)
            return
        if self.mode is not Mode.WHOLE:
            self.scan = self._open_scan()

    def on_body(self, data: bytes) -> None:
        if self.mode is Mode.EVENTS:
            try:
                data = self.scan.feed(data)
            except EventTooLargeError:
                self._connection.abandon()
                self.on_failed(UpstreamFault.PROTOCOL, TOO_LARGE)
                return
            if not data:
                return
            if self.content_at is None and self.scan.has_content:
                self.content_at = monotonic()
        if self._relay is not None:
            self._relay.forward(data)
        else:
            self._hold(data)

    def on_end(self, *, is_framed: bool) -> None:
        self.is_ended = True
        self.is_framed = is_framed
        if self._relay is not None:
            self._relay.finish()
        elif self.ready.done():
            return
        elif self.mode is Mode.EVENTS and not (self.held and self.scan.is_finished()):
            self._refuse(UpstreamError(UpstreamFault.TRUNCATED, "the stream ended before it said anything"))
        else:
            self.ready.set_result(None)

    def on_failed(self, fault: UpstreamFault, message: str) -> None:
        if self._relay is not None:
            self._relay.break_off(fault, message)
        elif self.ready.done():
            self._failed = fault, message
        else:
            self.ready.set_exception(UpstreamError(fault, message))

    def _choose_mode(self) -> Mode:
        content_type = b""
        is_encoded = False
        for name, value in self.headers:
            lowered = name.lower()
            if lowered == b"content-type":
                content_type = value.lower()
            elif lowered == b"content-encoding" and value.lower() != b"identity":
                is_encoded = True
        if self.status >= 400:
            return Mode.WHOLE
        if is_encoded:
            return Mode.OPAQUE
        if content_type.startswith(_EVENT_TYPES):
            if not self.wants_stream:
                raise UpstreamError(UpstreamFault.PROTOCOL, "answered with a stream that was not asked for")
            return Mode.EVENTS
        if content_type.startswith(b"text/html"):
            raise UpstreamError(UpstreamFault.PROTOCOL, "answered with a web page")
        return Mode.WHOLE if not content_type or content_type.startswith(_WHOLE_TYPES) else Mode.OPAQUE

    def _hold(self, data: bytes) -> None:
        self.held.append(data)
        self._held_bytes += len(data)
        if self.ready.done():
            return
        if self.mode is Mode.EVENTS:
            self._judge_events()
            return
        if self.mode is Mode.WHOLE and self._held_bytes > MAX_HELD_BYTES:
            self.mode = Mode.OPAQUE
            self.scan = self._open_scan()
        if self.mode is Mode.OPAQUE:
            self.content_at = monotonic()
            self.ready.set_result(None)

    def _judge_events(self) -> None:
        if error := self.scan.first_error():
            self._become_error(*error)
        elif self.scan.has_content:
            self.ready.set_result(None)
        elif self._hold_timer is None and self.scan.data_blocks:
            self._hold_timer = self.loop.call_later(COMMIT_HOLD_S, self._release_hold)
        elif self._held_bytes > MAX_HELD_BYTES:
            self._refuse(UpstreamError(UpstreamFault.PROTOCOL, "the stream says much and answers nothing"))

    def _become_error(self, status: int, body: bytes) -> None:
        """Be the answer that the stream should have been: nothing of it has gone to the client yet."""
        self.status = status
        self.mode = Mode.WHOLE
        self.headers = [(name, value) for name, value in self.headers if name.lower() != b"content-type"]
        self.headers.append((b"Content-Type", b"application/json"))
        self.held = [body]
        self.is_ended = True
        self._refuse(UpstreamError(UpstreamFault.IN_STREAM_ERROR, "the stream began with an error", status=status))

    def _release_hold(self) -> None:
        # Lifecycle events have waited long enough for the content that they announce.
        if not self.ready.done():
            self.ready.set_result(None)

    def _refuse(self, error: UpstreamError) -> None:
        self._connection.abandon()
        if not self.ready.done():
            self.ready.set_exception(error)
