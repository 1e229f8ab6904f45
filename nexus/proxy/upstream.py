"""Connections to backends: made, kept for reuse, and taken apart; the answer's bytes go to whoever asked."""

import asyncio
from collections import deque
from time import monotonic
from typing import Final, Protocol

import httptools

from nexus.errors import UpstreamError, UpstreamFault
from nexus.proxy.dialing import Address, dial

MAX_HEADERS: Final = 128
MAX_HEAD_BYTES: Final = 64 * 1024
MAX_HEADER_BYTES: Final = 8190
"""Of one header: what common HTTP clients read of one. They would take a longer one for a defect of the proxy."""
MAX_INTERIM_ANSWERS: Final = 16
"""Informational (1xx) answers before the real one; more of them is a flood."""
MAX_BARREN_BYTES: Final = 2 * MAX_HEAD_BYTES
"""Bytes in a row without a head, a body or an end in them: more is a header, a trailer or a chunk size without end."""
STALE_S: Final = 1.0
"""A reused connection that is closed later than this was not stale: the request may have been begun."""
MAX_IDLE: Final = 256
"""Idle connections kept per backend."""

HeaderList = list[tuple[bytes, bytes]]


class AnswerSink(Protocol):
    """Where one answer goes, in this order: head, any number of bodies, then end or failed, once."""

    def on_head(self, status: int, headers: HeaderList) -> None: ...

    def on_body(self, data: bytes) -> None: ...

    def on_end(self, *, is_framed: bool) -> None:
        """The answer is whole; without framing, only as far as a closed connection can tell."""

    def on_failed(self, fault: UpstreamFault, message: str) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """One connection to one backend, carrying one exchange at a time.

    The parser's callbacks only collect; what they collected is handed on once per read, so that a read which holds
    many small chunks costs one hand-over.
    """

    __slots__ = (
        "_barren_bytes",
        "_has_head",
        "_head_bytes",
        "_headers",
        "_interim",
        "_is_close_delimited",
        "_is_complete",
        "_is_keep_alive",
        "_is_surplus",
        "_is_told",
        "_parser",
        "_parts",
        "_received",
        "_sent_at",
        "_sink",
        "_status",
        "counts",
        "idle_since",
        "is_closed",
        "is_reused",
        "transport",
    )

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.is_closed = False
        self.is_reused = False
        self.idle_since = 0.0
        self.counts: ConnectionCounts | None = None
        """Of its pool, once it is connected."""
        self._parser = httptools.HttpResponseParser(self)
        self._sink: AnswerSink | None = None
        self._sent_at = 0.0
        self._expect_answer()

    def _expect_answer(self) -> None:
        self._headers: HeaderList = []
        self._head_bytes = 0
        """No less than the bytes of the head so far."""
        self._barren_bytes = 0
        self._parts: list[bytes] = []
        self._status = 0
        self._interim = 0
        self._received = False
        self._has_head = False
        self._is_told = False
        self._is_complete = False
        self._is_surplus = False
        self._is_keep_alive = False
        self._is_close_delimited = False

    def send(self, head: bytes, body: bytes, sink: AnswerSink) -> None:
        """Write one request; *sink* is told what comes back."""
        self._sink = sink
        self._sent_at = monotonic()
        # Writing can fail at once and report the loss before it returns: the sink must be in place.
        if len(body) < MAX_HEAD_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)

    def abandon(self) -> None:
        """Close at once: whoever asked is no longer interested, and the backend must stop working for nobody."""
        self._sink = None
        self.is_closed = True
        self.transport.abort()

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow on this connection."""
        return (
            self._is_complete
            and self._is_keep_alive
            and not self._is_surplus
            and not self.is_closed
            and not self.transport.is_closing()
            and not self.transport.get_write_buffer_size()
        )

    def rest(self, now: float) -> None:
        """Become idle; anything that arrives from now on belongs to nobody and ends the connection."""
        self._sink = None
        self.is_reused = True
        self.idle_since = now
        # Whoever got the last answer may have stopped reading just before its end.
        self.transport.resume_reading()
        self._expect_answer()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        sink = self._sink
        if sink is None or self._is_complete:
            self._is_surplus = True
            self.close()
            return
        self._received = True
        if not self._has_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            if not self._is_complete:
                # What came before the break is an answer's all the same, whether or not it came with it.
                self._hand_over(sink)
                self._fail(UpstreamFault.PROTOCOL, _why_unreadable(exc))
                return
            self._is_surplus = True
        if self._parts or self._is_complete:
            self._barren_bytes = 0
        else:
            self._barren_bytes += len(data)
            if self._barren_bytes > MAX_BARREN_BYTES:
                self._fail(UpstreamFault.PROTOCOL, "a header, a trailer or a chunk size without end")
                return
        self._hand_over(sink)

    def _hand_over(self, sink: AnswerSink) -> None:
        if self._has_head and not self._is_told:
            self._is_told = True
            sink.on_head(self._status, self._headers)
        if self._parts and self._sink is sink:
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts.clear()
            sink.on_body(data)
        if self._is_complete and self._sink is sink:
            sink.on_end(is_framed=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self.counts is not None:
            self.counts.open -= 1
            self.counts = None
        sink, self._sink = self._sink, None
        if sink is None or self._is_complete:
            return
        if self._is_close_delimited and exc is None:
            sink.on_end(is_framed=False)
        elif self._has_head:
            sink.on_failed(UpstreamFault.TRUNCATED, "the connection was closed before the answer was complete")
        elif self._received or not self.is_reused or monotonic() - self._sent_at > STALE_S:
            sink.on_failed(UpstreamFault.RESET, "the connection was closed before the answer began")
        else:
            sink.on_failed(UpstreamFault.STALE, "a reused connection was closed without an answer")

    def close(self) -> None:
        """Close an idle or finished connection."""
        self.is_closed = True
        if self.transport.get_write_buffer_size():
            # Answered before it had read the request: closing in good order would go on sending the rest.
            self.transport.abort()
        else:
            self.transport.close()

    def _fail(self, fault: UpstreamFault, message: str) -> None:
        sink = self._sink
        self.abandon()
        if sink is not None:
            sink.on_failed(fault, message)

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._is_complete:
            self._is_surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # Measured when all are there: until then, MAX_BARREN_BYTES is the bound. What comes later is a trailer.
        if not self._has_head:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._is_complete:
            return
        self._refuse_large_head()
        self._status = status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._interim += 1
            if self._interim > MAX_INTERIM_ANSWERS:
                raise UpstreamError(UpstreamFault.PROTOCOL, "answered with a flood of informational answers")
            self._headers.clear()
            return
        self._has_head = True
        self._is_keep_alive = self._parser.should_keep_alive()
        self._is_close_delimited = not self._is_keep_alive and not any(
            name.lower() in _LENGTH_HEADERS for name, _ in self._headers
        )

    def on_body(self, data: bytes) -> None:
        if not self._is_complete:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        if self._has_head:
            self._is_complete = True

    def _refuse_large_head(self) -> None:
        headers = self._headers
        if len(headers) > MAX_HEADERS:
            raise _too_much()
        if self._head_bytes <= MAX_HEADER_BYTES:
            return
        sizes = [len(name) + len(value) for name, value in headers]
        if max(sizes, default=0) > MAX_HEADER_BYTES or sum(sizes) > MAX_HEAD_BYTES:
            raise _too_much()

    def pause_reading(self) -> None:
        """Stop reading: whoever gets the answer cannot take more now."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()


def _too_much() -> UpstreamError:
    return UpstreamError(UpstreamFault.PROTOCOL, "answered with too many or too long headers")


_LENGTH_HEADERS: Final = frozenset({b"content-length", b"transfer-encoding"})


def _why_unreadable(exc: Exception) -> str:
    # The parser hides what a callback raised behind an error of its own.
    cause = exc.__context__
    return str(cause) if isinstance(cause, UpstreamError) else f"not an HTTP/1.1 answer: {type(exc).__name__}"


class ConnectionCounts:
    """The connections to one backend; they outlive its pool, which a reload replaces."""

    __slots__ = ("open", "opened", "reused")

    def __init__(self) -> None:
        self.open = 0
        """Now, idle ones included."""
        self.opened = 0
        self.reused = 0
        """Requests that found an idle one."""


class Pool:
    """The connections to one backend: idle ones are reused for a few seconds, the newest first."""

    def __init__(
        self, address: Address, *, connect_timeout_s: float, keepalive_s: float, counts: ConnectionCounts | None = None
    ) -> None:
        self.address = address
        self.counts = counts or ConnectionCounts()
        self._connect_timeout_s = connect_timeout_s
        self._keepalive_s = keepalive_s
        self._idle: deque[UpstreamConnection] = deque()
        self._loop = asyncio.get_running_loop()
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    def take_idle(self) -> UpstreamConnection | None:
        """Return a connection that may be reused, None when a fresh one is needed."""
        fresh_after = monotonic() - self._keepalive_s
        while self._idle:
            connection = self._idle.pop()
            if connection.is_closed or connection.transport.is_closing():
                continue
            if connection.idle_since < fresh_after:
                connection.close()
                continue
            self.counts.reused += 1
            return connection
        return None

    async def open(self) -> UpstreamConnection:
        """Connect, TLS included.

        :raises UpstreamError: REFUSED, CONNECT_TIMEOUT or TLS; nothing has been sent then.
        """
        connection = await dial(self.address, UpstreamConnection, timeout_s=self._connect_timeout_s)
        self.counts.opened += 1
        if not connection.is_closed:
            self.counts.open += 1
            connection.counts = self.counts
        return connection

    def give_back(self, connection: UpstreamConnection, *, may_reuse: bool) -> None:
        """Keep *connection* for the next request if it can serve one, else close it."""
        if self._is_closed or not may_reuse or not connection.is_reusable or len(self._idle) >= MAX_IDLE:
            connection.close()
            return
        connection.rest(monotonic())
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._keepalive_s, self._close_expired)

    def _close_expired(self) -> None:
        self._sweep = None
        fresh_after = monotonic() - self._keepalive_s
        while self._idle and self._idle[0].idle_since <= fresh_after:
            self._idle.popleft().close()
        if self._idle:
            self._sweep = self._loop.call_later(self._keepalive_s, self._close_expired)

    def close(self) -> None:
        """Close all idle connections; those in use are closed when they are given back."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        while self._idle:
            self._idle.pop().close()
