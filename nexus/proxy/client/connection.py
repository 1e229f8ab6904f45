"""One client connection, whose requests are served in turn by one task."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import RawRequestMessage

from nexus import tasks
from nexus.errors import RequestError
from nexus.proxy.client.body import LINGER_S, is_discarded
from nexus.proxy.client.descriptors import Room, turn_away
from nexus.proxy.client.half_close import HalfClosed, NextBytes
from nexus.proxy.client.incoming import IncomingRequest
from nexus.proxy.client.request_reader import MAX_WAITING, PendingRequests, Received, error_of
from nexus.proxy.client.timeouts import ClientTimeouts
from nexus.proxy.client.write_stall import WriteStall
from nexus.proxy.headers.from_client import HeadMemory, can_stay_open
from nexus.proxy.write_batch import BatchedWriter

if TYPE_CHECKING:
    from nexus.proxy.client.server import ProxyServer

log = structlog.get_logger("nexus.proxy")

SCARCE_KEEPALIVE_S: Final = 1.0
"""How long a connection waits for its first request when few file descriptors are left."""
IDLE_LINGER_S: Final = 0.3
"""How long an idle connection is still read once it ends, so that a request on its way does not meet a reset."""
_INTERIM: Final = b"HTTP/1.1 1"
"""The beginning of an informational (1xx) reply."""


class ClientConnection(BaseProtocol):
    """Reads requests, passes each to the server's handler, and writes the replies."""

    __slots__ = (
        "_half_closed",
        "_has_begun",
        "_has_timed_out",
        "_is_ending",
        "_is_shed",
        "_on_pause",
        "_on_resume",
        "_pending",
        "_receive",
        "_resumed",
        "_server",
        "_stall",
        "_stream_is_chunked",
        "_timeouts",
        "_waiter",
        "_writer",
        "has_stalled",
        "heads",
        "is_surplus",
        "last_request",
        "starts",
        "task",
        "write_now",
    )

    transport: asyncio.Transport | None

    def __init__(self, server: "ProxyServer") -> None:
        super().__init__(server.loop)
        self._server = server
        self.starts = server.starts
        self._pending = PendingRequests(self, server.loop)
        self._waiter: asyncio.Future[None] | None = None
        self._timeouts = ClientTimeouts(
            server.loop, headers_s=server.headers_s, keepalive_s=server.keepalive_s, give_up=self._stop_waiting
        )
        self._is_ending = False
        self._is_shed = False  # see ProxyServer.to_shed
        self._has_timed_out = False
        """Whether the wait for a request timed out: no further one is awaited."""
        self._half_closed: HalfClosed | None = None
        self._has_begun = False
        """Whether a part of the reply to the current request has been written."""
        self._writer: BatchedWriter | None = None
        """None before the connection is made, and after it is lost."""
        self.write_now: Callable[[bytes], None]
        """Writes to the client without waiting for other writes of this turn; set when the connection is made."""
        self._stall: WriteStall
        """Set when the connection is made."""
        self.has_stalled = False
        """Whether the connection was cut because the client took nothing for too long."""
        self._on_pause: Callable[[], None] | None = None
        self._on_resume: Callable[[], None] | None = None
        self._stream_is_chunked: bool | None = None
        """Whether the current stream is chunked; None: there is no stream."""
        self._receive: Callable[[bytes], None] | None = None
        self._resumed: asyncio.Event | None = None
        self.heads = HeadMemory()
        self.is_surplus = False
        """Whether too few file descriptors are left to send its requests to a backend."""
        self.last_request: IncomingRequest | None = None
        """The last admitted request; the next one with the same head reuses its checks."""
        self.task: asyncio.Task[None]
        """Serves the requests in turn; it is cancelled when the client leaves."""

    # for the handler and the exchange

    @property
    def remote(self) -> str:
        """The client's address, for logs."""
        peer = self.transport.get_extra_info("peername") if self.transport is not None else None
        return str(peer[0]) if peer else "unknown"

    def begin_stream(self, pause: Callable[[], None], resume: Callable[[], None], *, is_chunked: bool) -> None:
        """Call *pause* when the client stops reading, and *resume* when it continues, until :meth:`end_stream`."""
        self.starts.streams += self._stream_is_chunked is None
        self._on_pause, self._on_resume, self._stream_is_chunked = pause, resume, is_chunked

    def end_stream(self) -> None:
        self.starts.streams -= self._stream_is_chunked is not None
        self._on_pause = self._on_resume = self._stream_is_chunked = None

    def hand_over(self, receive: Callable[[bytes], None]) -> None:
        """Pass all bytes of the client to *receive* from now on: they are not HTTP, and FIN ends the connection."""
        self._receive = receive
        if self._half_closed is not None:
            self.abort()

    def write(self, data: bytes) -> None:
        """Write to the client; after it has left, drop *data*."""
        if self._writer is not None:
            if self._half_closed is not None and not self._has_begun:
                data = self._half_closed.rest_of(data)
            self._has_begun = not data.startswith(_INTERIM)
            self._writer.write(data)

    def write_last(self, data: bytes) -> None:
        """Write the end of a reply; writing is then paused until all of it has left this process."""
        if self._writer is not None:
            self._writer.write_last(data)
            if not self.writing_paused:
                self._writer.allow_buffering()

    async def deliver(self, pieces: deque[bytes]) -> None:
        """Write *pieces*, the end of a reply, as the client takes them, and wait until it has taken all.

        Each is freed when it is written. If the client leaves, or takes nothing for too long, this is cancelled.
        """
        while len(pieces) > 1:
            self.write_now(pieces.popleft())
            await self._resumption()
        self.write_last(pieces.popleft())
        await self.drained()

    def close(self) -> None:
        """Close the connection once everything written has left, or the client takes nothing for too long."""
        if self._writer is not None:
            self._writer.close()
            self._stall.watch()

    def abort(self) -> None:
        """Reset the connection, so that an incomplete reply does not look complete."""
        if self._writer is not None:
            self._writer.abort()

    async def drained(self) -> None:
        """If writing is paused, wait until the client has taken everything that was written."""
        if self.writing_paused and self._writer is not None:
            self._writer.write_last(b"")
            await self._resumption()

    @property
    def unsent(self) -> int:
        """How many bytes were written and are still in this process."""
        return self._writer.unsent if self._writer is not None else 0

    def may_follow(self, message: RawRequestMessage) -> bool:
        """Whether the reply to *message* may keep the connection open."""
        server = self._server
        if server.to_shed and not self._is_shed:
            self._is_shed, server.to_shed = True, server.to_shed - 1
        # If the client has already sent more requests, only the reply to the last one announces the close.
        is_ending = server.is_draining or self.is_surplus or self._is_shed
        return can_stay_open(message) and (not is_ending or bool(self._pending.waiting))

    @property
    def is_handed_over(self) -> bool:
        """Whether the connection carries a protocol other than HTTP, which may never end by itself."""
        return self._receive is not None

    def end(self, grace_s: float) -> None:
        """Serve the requests that have begun to arrive, wait *grace_s* for another, and close."""
        self._timeouts.shorten(grace_s)

    async def _resumption(self) -> None:
        """Wait until writing is not paused."""
        while self.writing_paused and self.connected:
            self._resumed = asyncio.Event()
            await self._resumed.wait()

    # requests in turn

    async def _serve(self) -> None:
        pending, timeouts = self._pending, self._timeouts
        try:
            while pending.waiting or await self._has_next():
                timeouts.is_busy = True
                self._has_begun = False
                message, body, _ = received = self._take()
                try:
                    may_follow = await self._server.handle(self, received)
                except Exception as exc:  # noqa: BLE001 - a bug in Nexus: the client gets an error, the log the cause
                    self._crash(exc, message)
                    may_follow = False
                if self.writing_paused:
                    await self.drained()
                if not body.is_eof():
                    may_follow = await is_discarded(body) and may_follow
                timeouts.is_busy, timeouts.idle_since = False, self._loop.time()
                if self.unsent:
                    self._stall.watch()
                if not may_follow or self._is_ending:
                    if not self._is_ending and can_stay_open(message):
                        # The client does not expect the close, and may be sending another request.
                        await self._end_gently(LINGER_S)
                    break
            else:
                if pending.malformed is not None:
                    error, is_head = pending.malformed
                    self.write(self._server.refuse_malformed(self, error_of(error), is_head))
                    await self._end_gently(LINGER_S)
                elif self._has_timed_out:
                    grace_s = self._server.grace_s
                    await self._end_gently(IDLE_LINGER_S if grace_s is None else min(IDLE_LINGER_S, grace_s))
        finally:
            self._is_ending = True
            self.close()

    async def _has_next(self) -> bool:
        """Wait for the next request; False: no further request is served."""
        is_last = self._is_ending or self._has_timed_out or self._half_closed is not None
        if self._pending.malformed is None and not is_last:
            self._waiter = self._loop.create_future()
            await self._waiter
        return bool(self._pending.waiting)

    async def _end_gently(self, linger_s: float) -> None:
        """Close the writing side, and drop what arrives until the client closes its own, for *linger_s* at most.

        Data that arrives on a fully closed connection resets it, and the client may lose the reply.
        """
        self._pending.drop()
        if self._buffer_paused:
            self._resume_reading_for_buffer()
        if self._writer is not None and self._half_closed is None:
            self._writer.write_eof()
            await asyncio.sleep(linger_s)

    def _take(self) -> Received:
        """Take the next request; resume reading if it was paused because too many were waiting."""
        taken = self._pending.take()
        if self._buffer_paused and self._pending.has_room:
            self._resume_reading_for_buffer()
        return taken

    def _crash(self, exc: Exception, message: RawRequestMessage) -> None:
        log.error("request_crashed", remote=self.remote, exc_info=exc)
        error = RequestError("internal_error", "a defect of the proxy; its log has the details", close=True)
        self.write(self._server.refuse_malformed(self, error, message.method == "HEAD"))

    def _stop_waiting(self) -> None:
        """Stop waiting for a request after a timeout."""
        self._has_timed_out = True
        self._wake()

    def _cut_stalled(self) -> None:
        """Cut the connection: the client takes nothing of what was written for it."""
        self.has_stalled = True
        self.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        server, sock = self._server, transport.get_extra_info("socket")
        room = Room.ENOUGH if server.descriptors is None else server.descriptors.room_for(sock.fileno())
        if room is Room.NONE:
            turn_away(transport)  # type: ignore[arg-type]
            return
        self.is_surplus = room is Room.LITTLE
        super().connection_made(transport)
        self._writer = BatchedWriter(transport, server.batch)  # type: ignore[arg-type]
        self._writer.allow_buffering()
        self.write_now = self._writer.write_now
        self._stall = WriteStall(
            self._loop, self._writer, sock.fileno(), limit_s=lambda: server.write_stall_s, give_up=self._cut_stalled
        )
        # A client that loses power sends no FIN: without keep-alive probes, its request would never end.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        server.connections.add(self)
        self._timeouts.begin()
        if self.is_surplus:
            self._timeouts.shorten(SCARCE_KEEPALIVE_S)
        if server.grace_s is not None:
            self._timeouts.shorten(server.grace_s)
        self.task = tasks.start(self._serve(), name="client")

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._pending.waiting and not self._is_ending:
            # No reply has announced that they are not served.
            self._server.note_abandoned(self, tuple(self._pending.waiting))
        super().connection_lost(exc)
        self._writer = self._receive = self.last_request = None  # some refer to this connection, and would keep it
        self._server.connections.discard(self)
        self._timeouts.end()
        self._stall.stop()
        if self._half_closed is not None:
            self._half_closed.stop()
            self._half_closed = None
        self._is_ending = True
        self._pending.drop()
        # When a client leaves, its request must not keep a GPU busy.
        self.task.cancel()

    def eof_received(self) -> bool:
        """Keep serving a client that sends no more but may still read; return False to close the connection."""
        pending, transport = self._pending, self.transport
        is_busy = self._timeouts.is_busy or pending.waiting or pending.malformed is not None
        if transport is None or self._receive is not None or not is_busy or not pending.end():
            return False
        if self._has_begun and self._stream_is_chunked is False:
            # Without chunks, no byte can be sent early in this reply to find out whether the client still reads.
            return False
        sock = transport.get_extra_info("socket")
        self._half_closed = HalfClosed(self._loop, sock, next_is=self._next_is, write=self.write_now, leave=self.abort)
        return True

    def _next_is(self) -> NextBytes:
        if not self._has_begun:
            return NextBytes.HEAD
        return NextBytes.CHUNK if self._stream_is_chunked else NextBytes.UNKNOWN

    def data_received(self, data: bytes) -> None:
        if self._receive is not None:
            self._receive(data)
            return
        pending, timeouts = self._pending, self._timeouts
        if pending.is_closed or (self._is_ending and not timeouts.is_busy):
            return
        is_found = pending.read(data)
        if pending.malformed is not None:
            timeouts.stop_awaiting_head()
            self._wake()
            return
        if is_found:
            self._wake()
            if len(pending.waiting) >= MAX_WAITING and not self._buffer_paused:
                self._pause_reading_for_buffer()
        if not (is_found or timeouts.is_busy):
            timeouts.head_began()
        elif timeouts.head_timer is not None:
            timeouts.stop_awaiting_head()

    def _wake(self) -> None:
        waiter, starts = self._waiter, self.starts
        if waiter is not None and not waiter.done():
            if starts.streams:
                starts.wake(waiter)
            else:
                waiter.set_result(None)
                starts.announce()

    def pause_reading(self) -> None:
        # aiohttp would pause the parser too, which could then be fed bytes of the next request.
        self._reading_paused = True
        self._pause_transport_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: ARG002, FBT002 - aiohttp's signature
        # Bodies call this on each read, mostly while nothing is paused.
        if self._reading_paused:
            self._reading_paused = False
            if not self._buffer_paused:
                self._resume_transport_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall.watch()
        if self._on_pause is not None:
            self._on_pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writer is not None:
            self._writer.allow_buffering()
        if self._resumed is not None:
            self._resumed.set()
        if self._on_resume is not None:
            self._on_resume()
