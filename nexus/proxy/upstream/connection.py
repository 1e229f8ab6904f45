"""One connection to a backend: a request goes out on it, and what comes back is the answer to that request alone."""

import asyncio
from math import inf
from time import monotonic
from typing import Final, Protocol

import httptools
import msgspec

from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError
from nexus.proxy.socket_state import SocketState
from nexus.proxy.upstream.response_parser import WITHOUT_BODY, HeaderList, ResponseHead
from nexus.proxy.write_batch import BatchedWriter, WriteBatch

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
SUSPECT_S: Final = 1.0
"""How long a connection with unread bytes stays open, unused, for the event loop to read what they are."""
TIMEOUT_NOTICES: Final = (b"HTTP/1.1 408 ", b"HTTP/1.0 408 ")
"""How some servers announce that they close an idle connection: no fault, though no request asked for it."""


class ResponseSink(Protocol):
    """Where one answer goes, in this order: head, any number of bodies, then end or failed, once."""

    def on_head(self, head: ResponseHead) -> None: ...

    def on_body(self, data: bytes) -> None: ...

    def on_end(self, *, is_framed: bool) -> None:
        """The answer is whole; without framing, only as far as a closed connection can tell."""

    def on_failed(self, fault: UpstreamFault, message: str) -> None: ...


class ConnectionOwner(Protocol):
    """The pool of a connection, as far as the connection tells it something."""

    def on_lost(self) -> None:
        """The connection is closed; told once."""

    def on_unasked(self) -> None:
        """The backend sent bytes on it that answer no request."""


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
    head: ResponseHead | None = None
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
        "_batch",
        "_coming",
        "_is_asked",
        "_is_suspect",
        "_parser",
        "_sent_at",
        "_sink",
        "_size",
        "_socket",
        "_writer",
        "expires_at",
        "idle_since",
        "is_closed",
        "is_reused",
        "owner",
        "peer",
        "transport",
    )

    def __init__(self, batch: WriteBatch | None = None) -> None:
        """:param outbox: where requests wait for those of the same turn; None: nowhere."""
        self.transport: asyncio.Transport
        self._batch = batch
        self._writer: BatchedWriter
        self.is_closed = False
        self.is_reused = False
        self.idle_since = 0.0
        self.expires_at = inf  # of the monotonic clock, as set by its pool
        self.peer = b""  # the address where a name led to, set likewise
        self.owner: ConnectionOwner | None = None
        """Its pool, once it is connected."""
        self._parser = httptools.HttpResponseParser(self)
        self._sink: ResponseSink | None = None
        self._sent_at = 0.0
        self._size = 0
        """Of the request, in bytes."""
        self._is_asked = False
        """Whether the request has begun to leave: bytes that come before that answer something else."""
        self._is_suspect = False
        """Whether unread bytes kept it from being used."""
        self._coming = _Coming()

    def send(self, head: bytes, body: bytes, sink: ResponseSink) -> None:
        """Write one request; *sink* is told what comes back."""
        if self.is_closed:
            sink.on_failed(self._fault_before_sending, "the connection was closed before the request was sent")
            return
        self._sink = sink
        self._sent_at = monotonic()
        self._size = len(head) + len(body)
        # Writing can fail at once and report the loss before it returns: the sink must be in place.
        if len(body) < MAX_HEAD_BYTES:
            self._writer.write(head + body)
        elif self._may_leave():
            self._writer.write_now(head)
            self._writer.write_now(body)

    def wakes(self) -> None:
        """Note that a task is woken by what has come, and is going to write what follows from it."""
        if self._batch is not None:
            self._batch.expect()

    def abandon(self) -> None:
        """Close at once, so that the backend stops working on an answer that no client waits for."""
        self._sink = None
        self.is_closed = True
        if not self._is_suspect:
            self._writer.abort()

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow on this connection."""
        return (
            self._coming.is_reusable
            and not self.is_closed
            and not self.transport.is_closing()
            and not self._writer.unsent
        )

    def rest(self, now: float) -> None:
        """Become idle; anything that arrives from now on answers no request and ends the connection."""
        self._sink = None
        self._is_asked = False
        self.is_reused = True
        self.idle_since = now
        # The client of the last answer may have stopped reading just before its end.
        self.transport.resume_reading()
        self._coming = _Coming()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._socket = SocketState(self.transport)
        self._writer = BatchedWriter(self.transport, self._batch, self._may_leave)

    def data_received(self, data: bytes) -> None:
        sink, coming = self._sink, self._coming
        if sink is None or not self._is_asked or coming.is_complete:
            self._refuse_unasked(data)
        elif coming.has_begun:
            self._parse(sink, coming, data)
        elif self.is_reused and self._was_sent_too_early():
            self._tell_unasked()
            self._fail(UpstreamFault.RESET, "the backend sent bytes before the request arrived")
        else:
            coming.has_begun = True
            self._parse(sink, coming, data)

    @property
    def _fault_before_sending(self) -> UpstreamFault:
        """The fault of a connection that became useless before the request left: a reused one is dialled anew."""
        return UpstreamFault.STALE if self.is_reused else UpstreamFault.RESET

    def _may_leave(self) -> bool:
        """Whether the request may be written now: not when bytes have come that would be taken for its answer."""
        if self._is_asked or not self._has_unread():
            self._is_asked = True
            return True
        # Only the event loop reads what they are: an answer too many, or the end of the connection.
        sink, self._sink = self._sink, None
        self.is_closed = self._is_suspect = True
        self._writer.drop()
        asyncio.get_running_loop().call_later(SUSPECT_S, self.transport.close)
        if sink is not None:
            sink.on_failed(self._fault_before_sending, "the backend sent bytes before the request was sent")
        return False

    def _has_unread(self) -> bool:
        # On a fresh connection, TLS itself has bytes to read: the session tickets.
        return (self.is_reused or not self._socket.is_tls) and self._socket.has_unread()

    def _was_sent_too_early(self) -> bool:
        """Whether the first bytes that came are older than the request: it has not left, or not arrived, as a whole."""
        return self._writer.unsent >= self._size or self._socket.is_unacknowledged(self._size)

    def _refuse_unasked(self, data: bytes) -> None:
        """Close the connection for *data*, which answer no request that has left."""
        is_waiting = self._sink is not None and not self._coming.is_complete
        self._coming.is_surplus = True
        is_cut = self.is_closed and not self._is_suspect
        if not is_cut and not data.startswith(TIMEOUT_NOTICES):
            self._tell_unasked()
        if is_waiting:
            self._fail(self._fault_before_sending, "the backend sent bytes before the request was sent")
        else:
            self.close()

    def _tell_unasked(self) -> None:
        if self.owner is not None:
            self.owner.on_unasked()

    def _parse(self, sink: ResponseSink, coming: _Coming, data: bytes) -> None:
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
        if coming.is_surplus:
            self._tell_unasked()
            if self.is_reused and coming.head is None:
                # The first may be one too many, sent for the request before; which one, nothing tells.
                self._fail(UpstreamFault.PROTOCOL, "it sent more than one answer to one request")
                return
        if coming.parts or coming.is_complete:
            coming.barren_bytes = 0
        else:
            coming.barren_bytes += len(data)
            if coming.barren_bytes > MAX_BARREN_BYTES:
                self._fail(UpstreamFault.PROTOCOL, "a header, a trailer or a chunk size without end")
                return
        self._hand_over(sink, coming)

    def _hand_over(self, sink: ResponseSink, coming: _Coming) -> None:
        if coming.has_head and coming.head is None:
            coming.head = ResponseHead(coming.status, coming.headers)
            sink.on_head(coming.head)
        if coming.parts and self._sink is sink:
            data = coming.parts[0] if len(coming.parts) == 1 else b"".join(coming.parts)
            coming.parts.clear()
            sink.on_body(data)
        if coming.is_complete and self._sink is sink:
            sink.on_end(is_framed=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self.owner is not None:
            self.owner.on_lost()
            self.owner = None
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
        if self._writer.unsent:
            # Answered before it had read the request: closing in good order would go on sending the rest.
            self._writer.abort()
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
        if status in WITHOUT_BODY:
            # The parser would wait for the body whose length is said, and is then lost for the next answer.
            coming.is_complete = True
            coming.is_keep_alive &= not any(
                name.lower() in _LENGTH_HEADERS and value.strip() != b"0" for name, value in coming.headers
            )

    def on_body(self, data: bytes) -> None:
        if not self._coming.is_complete:
            self._coming.parts.append(data)

    def on_message_complete(self) -> None:
        if self._coming.has_head:
            self._coming.is_complete = True

    def pause_reading(self) -> None:
        """Stop reading: the client cannot take more of the answer now."""
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
