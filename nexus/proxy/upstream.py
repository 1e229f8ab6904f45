"""Connections to backends: made, kept for reuse, and taken apart; the answer's bytes go to whoever asked."""

import asyncio
from collections import deque
from functools import partial
from time import monotonic
from typing import Final, Protocol

import httptools
import msgspec

from nexus.errors import UpstreamError, UpstreamFault
from nexus.proxy.answer_head import AnswerHead, HeaderList, KnownAnswer
from nexus.proxy.dialing import Address, dial
from nexus.proxy.outbox import Outbox, Outlet

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


class AnswerSink(Protocol):
    """Where one answer goes, in this order: head, any number of bodies, then end or failed, once."""

    def on_head(self, head: AnswerHead) -> None: ...

    def on_body(self, data: bytes) -> None: ...

    def on_end(self, *, is_framed: bool) -> None:
        """The answer is whole; without framing, only as far as a closed connection can tell."""

    def on_failed(self, fault: UpstreamFault, message: str) -> None: ...


class _Coming(msgspec.Struct, eq=False):
    """What has come of one answer, as far as the parser understands it."""

    headers: HeaderList = []
    head_bytes: int = 0
    """No less than the bytes of the head so far."""
    barren_bytes: int = 0
    parts: list[bytes] = []
    """Of the body, not handed over yet."""
    status: int = 0
    interim: int = 0
    has_begun: bool = False
    has_head: bool = False
    head: AnswerHead | None = None
    """As it was handed over; None before that."""
    is_complete: bool = False
    is_surplus: bool = False
    """Whether more has come than the answer."""
    is_keep_alive: bool = False
    is_close_delimited: bool = False

    @property
    def is_reusable(self) -> bool:
        """Whether it is whole, nothing follows it, and its sender says that another may."""
        return self.is_complete and self.is_keep_alive and not self.is_surplus


class UpstreamConnection(asyncio.Protocol):
    """One connection to one backend, carrying one exchange at a time.

    The parser's callbacks only collect; what they collected is handed on once per read, so that a read which holds
    many small chunks costs one hand-over.
    """

    __slots__ = (
        "_coming",
        "_known",
        "_outbox",
        "_outlet",
        "_parser",
        "_sent_at",
        "_sink",
        "counts",
        "idle_since",
        "is_closed",
        "is_reused",
        "transport",
    )

    def __init__(self, outbox: Outbox | None = None) -> None:
        """:param outbox: where requests wait for those of the same turn; None: nowhere."""
        self.transport: asyncio.Transport
        self._outbox = outbox
        self._outlet: Outlet
        self.is_closed = False
        self.is_reused = False
        self.idle_since = 0.0
        self.counts: ConnectionCounts | None = None
        """Of its pool, once it is connected."""
        self._parser = httptools.HttpResponseParser(self)
        self._known = KnownAnswer()
        self._sink: AnswerSink | None = None
        self._sent_at = 0.0
        self._coming = _Coming()

    def send(self, head: bytes, body: bytes, sink: AnswerSink) -> None:
        """Write one request; *sink* is told what comes back."""
        self._sink = sink
        self._sent_at = monotonic()
        # Writing can fail at once and report the loss before it returns: the sink must be in place.
        if len(body) < MAX_HEAD_BYTES:
            self._outlet.write(head + body)
        else:
            self._outlet.write_now(head)
            self._outlet.write_now(body)

    def wakes(self) -> None:
        """Note that somebody is woken by what has come, and going to write what follows from it."""
        if self._outbox is not None:
            self._outbox.expect()

    def abandon(self) -> None:
        """Close at once: whoever asked is no longer interested, and the backend must stop working for nobody."""
        self._sink = None
        self.is_closed = True
        self._outlet.abort()

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow on this connection."""
        return (
            self._coming.is_reusable
            and not self.is_closed
            and not self.transport.is_closing()
            and not self._outlet.unsent
        )

    def rest(self, now: float) -> None:
        """Become idle; anything that arrives from now on belongs to nobody and ends the connection."""
        self._sink = None
        self.is_reused = True
        self.idle_since = now
        # Whoever got the last answer may have stopped reading just before its end.
        self.transport.resume_reading()
        self._coming = _Coming()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._outlet = Outlet(self.transport, self._outbox)

    def data_received(self, data: bytes) -> None:
        sink, coming = self._sink, self._coming
        if sink is None or coming.is_complete:
            coming.is_surplus = True
            self.close()
        elif coming.has_begun:
            self._parse(sink, coming, data)
        elif (known := self._known.whole(data)) is not None:
            self._hand_over_whole(sink, *known)
        else:
            coming.has_begun = True
            self._parse(sink, coming, data)
            if coming.head is not None and coming.is_reusable and not coming.interim:
                self._known.learn(data, coming.head)

    def _parse(self, sink: AnswerSink, coming: _Coming, data: bytes) -> None:
        if not coming.has_head:
            coming.head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            if not coming.is_complete:
                # What came before the break is an answer's all the same, whether or not it came with it.
                self._hand_over(sink, coming)
                self._fail(UpstreamFault.PROTOCOL, _why_unreadable(exc))
                return
            coming.is_surplus = True
        if coming.parts or coming.is_complete:
            coming.barren_bytes = 0
        else:
            coming.barren_bytes += len(data)
            if coming.barren_bytes > MAX_BARREN_BYTES:
                self._fail(UpstreamFault.PROTOCOL, "a header, a trailer or a chunk size without end")
                return
        self._hand_over(sink, coming)

    def _hand_over(self, sink: AnswerSink, coming: _Coming) -> None:
        if coming.has_head and coming.head is None:
            coming.head = AnswerHead(coming.status, coming.headers)
            sink.on_head(coming.head)
        if coming.parts and self._sink is sink:
            data = coming.parts[0] if len(coming.parts) == 1 else b"".join(coming.parts)
            coming.parts.clear()
            sink.on_body(data)
        if coming.is_complete and self._sink is sink:
            sink.on_end(is_framed=True)

    def _hand_over_whole(self, sink: AnswerSink, head: AnswerHead, body: bytes) -> None:
        self._coming = _Coming(is_complete=True, is_keep_alive=True)
        sink.on_head(head)
        if body and self._sink is sink:
            sink.on_body(body)
        if self._sink is sink:
            sink.on_end(is_framed=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self.counts is not None:
            self.counts.open -= 1
            self.counts = None
        sink, self._sink, coming = self._sink, None, self._coming
        if sink is None or coming.is_complete:
            return
        if coming.is_close_delimited and exc is None:
            sink.on_end(is_framed=False)
        elif coming.has_head:
            sink.on_failed(UpstreamFault.TRUNCATED, "the connection was closed before the answer was complete")
        elif coming.has_begun or not self.is_reused or monotonic() - self._sent_at > STALE_S:
            sink.on_failed(UpstreamFault.RESET, "the connection was closed before the answer began")
        else:
            sink.on_failed(UpstreamFault.STALE, "a reused connection was closed without an answer")

    def close(self) -> None:
        """Close an idle or finished connection."""
        self.is_closed = True
        if self._outlet.unsent:
            # Answered before it had read the request: closing in good order would go on sending the rest.
            self._outlet.abort()
        else:
            self.transport.close()

    def _fail(self, fault: UpstreamFault, message: str) -> None:
        sink = self._sink
        self.abandon()
        if sink is not None:
            sink.on_failed(fault, message)

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._coming.is_complete:
            self._coming.is_surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # Measured when all are there: until then, MAX_BARREN_BYTES is the bound. What comes later is a trailer.
        if not self._coming.has_head:
            self._coming.headers.append((name, value))

    def on_headers_complete(self) -> None:
        coming = self._coming
        if coming.is_complete:
            return
        _refuse_large_head(coming)
        coming.status = status = self._parser.get_status_code()
        if 100 <= status < 200:
            coming.interim += 1
            if coming.interim > MAX_INTERIM_ANSWERS:
                raise UpstreamError(UpstreamFault.PROTOCOL, "answered with a flood of informational answers")
            coming.headers.clear()
            return
        coming.has_head = True
        coming.is_keep_alive = self._parser.should_keep_alive()
        coming.is_close_delimited = not coming.is_keep_alive and not any(
            name.lower() in _LENGTH_HEADERS for name, _ in coming.headers
        )

    def on_body(self, data: bytes) -> None:
        if not self._coming.is_complete:
            self._coming.parts.append(data)

    def on_message_complete(self) -> None:
        if self._coming.has_head:
            self._coming.is_complete = True

    def pause_reading(self) -> None:
        """Stop reading: whoever gets the answer cannot take more now."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()


def _refuse_large_head(coming: _Coming) -> None:
    headers = coming.headers
    if len(headers) > MAX_HEADERS:
        raise _too_much()
    if coming.head_bytes <= MAX_HEADER_BYTES:
        return
    sizes = [len(name) + len(value) for name, value in headers]
    if max(sizes, default=0) > MAX_HEADER_BYTES or sum(sizes) > MAX_HEAD_BYTES:
        raise _too_much()


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
        self,
        address: Address,
        *,
        connect_timeout_s: float,
        keepalive_s: float,
        counts: ConnectionCounts | None = None,
        outbox: Outbox | None = None,
    ) -> None:
        self.address = address
        self.counts = counts or ConnectionCounts()
        self._connect_timeout_s = connect_timeout_s
        self._keepalive_s = keepalive_s
        self._make: Final = partial(UpstreamConnection, outbox)
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
        connection = await dial(self.address, self._make, timeout_s=self._connect_timeout_s)
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
