"""One connection to a backend, which carries one request and its response at a time."""

import asyncio
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, cast

from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError
from nexus.proxy.socket_state import SocketState
from nexus.proxy.upstream.response_parser import ParsedResponse, ResponseHead, ResponseParser
from nexus.proxy.write_batch import BatchedWriter, WriteBatch

if TYPE_CHECKING:
    from nexus.proxy.upstream.pool import Pool

MAX_JOINED_BYTES: Final = 256 * 1024
"""A larger body is written separately, as joining it to the head would copy it."""
STALE_S: Final = 1.0
"""A reused connection that is closed later than this was not stale: the backend may have begun the request."""
SUSPECT_S: Final = 1.0
"""How long a connection with unread bytes stays open, unused, for the event loop to read them."""
TIMEOUT_NOTICES: Final = (b"HTTP/1.1 408 ", b"HTTP/1.0 408 ")
"""Some servers send this before they close an idle connection. It answers no request, and is no fault."""


class BodySink(Protocol):
    """Receives the body of a response: any number of parts, then end or failed, once."""

    def on_body(self, data: bytes) -> None: ...

    def on_end(self, *, is_framed: bool) -> None:
        """The response is complete; without framing, only the closed connection says so."""

    def on_failed(self, fault: UpstreamFault, message: str) -> None: ...


class ResponseSink(BodySink, Protocol):
    """Receives one response: its head first."""

    def on_head(self, head: ResponseHead) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """Writes a request, and passes the response to its sink: once per read, however many chunks that holds.

    A response must never reach the sink of another request. So a request is not written while bytes are unread, and
    bytes that arrive before it has left, or after its response, end the connection.
    """

    __slots__ = (
        "_batch",
        "_has_left",
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
        """:param batch: sends the requests of one turn of the event loop together; None: each is sent at once."""
        self.transport: asyncio.Transport
        self._batch = batch
        self._writer: BatchedWriter
        self.is_closed = False
        self.is_reused = False
        self.idle_since = 0.0
        self.expires_at = inf
        """Of the monotonic clock; set by the pool."""
        self.peer = b""
        """The address behind the backend's host name; set by the pool."""
        self.owner: Pool | None = None
        """The pool, from the moment the connection is made."""
        self._parser: ResponseParser
        """Made when the connection is, as only its loss frees it."""
        self._sink: BodySink | None = None
        self._sent_at = 0.0
        self._size = 0
        """Of the request, in bytes."""
        self._has_left = False
        """Whether the request was passed to the transport: bytes that arrive before that do not answer it."""
        self._is_suspect = False
        """Whether unread bytes kept a request from being written."""

    def send(self, head: bytes, body: bytes, sink: ResponseSink) -> None:
        """Write one request, and pass its response to *sink*."""
        if self.is_closed:
            sink.on_failed(self._fault_before_sending, "the connection was closed before the request was sent")
            return
        self._sink = sink
        self._sent_at = monotonic()
        self._size = len(head) + len(body)
        # Writing can fail at once and report the loss before it returns: the sink must be in place.
        if len(body) < MAX_JOINED_BYTES:
            self._writer.write(head + body)
        elif self._may_leave():
            self._writer.write_now(head)
            self._writer.write_now(body)

    def pass_to(self, sink: BodySink) -> None:
        """Pass the rest of the response, whose head has been passed on, to *sink*."""
        self._sink = sink

    def wakes(self) -> None:
        """Announce a write: what has arrived wakes a task, which passes it on."""
        if self._batch is not None:
            self._batch.expect()

    def abandon(self) -> None:
        """Close at once, so that the backend stops working on a response that no client waits for."""
        self._sink = None
        self.is_closed = True
        if not self._is_suspect:
            self._writer.abort()

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow on this connection."""
        response = self._parser.response
        return (
            response.is_complete
            and response.is_keep_alive
            and not response.has_surplus
            and not self.is_closed
            and not self.transport.is_closing()
            and not self._writer.unsent
        )

    def rest(self, now: float) -> None:
        """Become idle; bytes that arrive from now on answer no request and end the connection."""
        self._sink = None
        self._has_left = False
        self.is_reused = True
        self.idle_since = now
        # The client of the last response may have paused reading just before its end.
        self.transport.resume_reading()
        self._parser.response = ParsedResponse()

    def close(self) -> None:
        """Close an idle or finished connection."""
        self.is_closed = True
        if self._writer.unsent:
            # The backend answered before it read the whole request; an orderly close would send the rest.
            self._writer.abort()
        else:
            self.transport.close()

    def pause_reading(self) -> None:
        """Stop reading while the client cannot take more of the response."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._parser = ResponseParser()
        self._socket = SocketState(self.transport)
        self._writer = BatchedWriter(self.transport, self._batch, self._may_leave)

    def data_received(self, data: bytes) -> None:
        sink, response = self._sink, self._parser.response
        if sink is None or response.is_complete:
            self._refuse_unsolicited(data)
            return
        if response.head is None and not self._may_begin(response, data):
            return
        try:
            parts = self._parser.feed(data)
        except UpstreamError as exc:
            # The parts before the error count, whether or not they came in an earlier read.
            self._pass_on(sink, response)
            self._fail(exc.fault, str(exc))
            return
        if len(parts) == 1 and response.head is not None and not response.is_complete:
            # An event of a stream: most reads bring one.
            (part,) = parts
            parts.clear()
            sink.on_body(part)
        else:
            self._pass_on(sink, response)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        # Otherwise only the garbage collector would free this connection, and the whole exchange with it.
        self._writer.detach()
        self._parser.close()
        if self.owner is not None:
            self.owner.on_lost()
            self.owner = None
        sink, self._sink, response = self._sink, None, self._parser.response
        if sink is None or response.is_complete:
            return
        if response.is_close_delimited and exc is None:
            sink.on_end(is_framed=False)
        elif response.has_head:
            sink.on_failed(UpstreamFault.TRUNCATED, "the connection was closed before the response was complete")
        elif response.has_begun or not self.is_reused or monotonic() - self._sent_at > STALE_S:
            sink.on_failed(UpstreamFault.RESET, "the connection was closed before the response began")
        else:
            sink.on_failed(UpstreamFault.STALE, "a reused connection was closed without a response")

    def _pass_on(self, sink: BodySink, response: ParsedResponse) -> None:
        """Pass on what was parsed and has not been passed on yet."""
        if response.has_surplus:
            self._report_unsolicited()
            if self.is_reused and response.head is None:
                # The first of them may be a surplus response to the previous request; nothing tells them apart.
                self._fail(UpstreamFault.PROTOCOL, "sent more than one response to one request")
                return
        if response.has_head and response.head is None:
            response.head = ResponseHead(response.status, response.headers)
            # No other sink takes over before that.
            cast("ResponseSink", sink).on_head(response.head)
        if (parts := self._parser.parts) and self._sink is sink:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            sink.on_body(data)
        if response.is_complete and self._sink is sink:
            sink.on_end(is_framed=True)

    def _fail(self, fault: UpstreamFault, message: str) -> None:
        sink = self._sink
        self.abandon()
        if sink is not None:
            sink.on_failed(fault, message)

    # bytes that answer no request

    @property
    def _fault_before_sending(self) -> UpstreamFault:
        """The fault of a connection that fails before the request has left: a reused one was stale."""
        return UpstreamFault.STALE if self.is_reused else UpstreamFault.RESET

    def _may_leave(self) -> bool:
        """Whether the request may be written now; unread bytes, which would be taken for its response, prevent it."""
        # On a fresh connection, TLS itself has bytes to read: the session tickets.
        is_checked = not self._has_left and (self.is_reused or not self._socket.is_tls)
        if not is_checked or not self._socket.has_unread():
            self._has_left = True
            return True
        # Only the event loop can read whether they are a surplus response or the end of the connection.
        sink, self._sink = self._sink, None
        self.is_closed = self._is_suspect = True
        self._writer.drop()
        asyncio.get_running_loop().call_later(SUSPECT_S, self.transport.close)
        if sink is not None:
            sink.on_failed(self._fault_before_sending, "the backend sent bytes before the request was sent")
        return False

    def _may_begin(self, response: ParsedResponse, data: bytes) -> bool:
        """Whether *data*, which came before the head was complete, may be of the response; fail if not."""
        if not self._has_left:
            self._refuse_unsolicited(data)
            return False
        if not response.has_begun:
            # The backend cannot answer a request that it has not received.
            if self.is_reused and (self._writer.unsent >= self._size or self._socket.is_unacknowledged(self._size)):
                self._report_unsolicited()
                self._fail(UpstreamFault.RESET, "the backend sent bytes before the request arrived")
                return False
            response.has_begun = True
        return True

    def _refuse_unsolicited(self, data: bytes) -> None:
        """Close the connection for *data*, which answer no request that has left."""
        response = self._parser.response
        is_waiting = self._sink is not None and not response.is_complete
        response.has_surplus = True
        is_cut = self.is_closed and not self._is_suspect
        if not is_cut and not data.startswith(TIMEOUT_NOTICES):
            self._report_unsolicited()
        if is_waiting:
            self._fail(self._fault_before_sending, "the backend sent bytes before the request was sent")
        else:
            self.close()

    def _report_unsolicited(self) -> None:
        if self.owner is not None:
            self.owner.on_unsolicited()
