"""One connection of one client, whose requests one task answers in turn."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import StreamReader

from nexus import tasks
from nexus.errors import RequestError
from nexus.proxy.client.body import LINGER_S, is_discarded, linger
from nexus.proxy.client.descriptors import Room
from nexus.proxy.client.half_close import HalfClosed, Next
from nexus.proxy.client.pipeline import Incoming
from nexus.proxy.client.reception import Pausable, Reception
from nexus.proxy.client.request_reader import MAX_LINE, Request
from nexus.proxy.client.timeouts import Patience
from nexus.proxy.client.turn_away import turn_away
from nexus.proxy.client.write_stall import WriteStall
from nexus.proxy.headers.from_client import HeadMemory, can_stay_open
from nexus.proxy.write_batch import Outlet

log = structlog.get_logger("nexus.proxy")

SURPLUS_S: Final = 1.0
"""How long a connection waits for its first request when few file descriptors are left."""
IDLE_LINGER_S: Final = 0.3
"""How long a connection on which no request came is read on after its end: as long as one on its way may take."""
_INTERIM: Final = b"HTTP/1.1 1"
"""How an answer begins that another one follows."""


class ClientConnection(BaseProtocol):
    """The client's side of all that it asks for."""

    __slots__ = (
        "_desk",
        "_half_closed",
        "_has_begun",
        "_is_ending",
        "_is_given_up",
        "_outlet",
        "_patience",
        "_receive",
        "_reception",
        "_relay",
        "_resumed",
        "_stall",
        "_waiter",
        "_waiting",
        "admission",
        "body_length",
        "has_stalled",
        "heads",
        "is_surplus",
        "task",
    )

    transport: asyncio.Transport | None

    def __init__(self, reception: Reception) -> None:
        super().__init__(reception.loop)
        self._reception = reception
        self._desk = reception.desk
        self._waiting = Incoming(self, reception.loop)
        self._waiter: asyncio.Future[None] | None = None
        self._patience = Patience(
            reception.loop, headers_s=reception.headers_s, keepalive_s=reception.keepalive_s, give_up=self._stop_waiting
        )
        self._is_ending = False
        self._is_given_up = False
        """Whether no further request is waited for."""
        self._half_closed: HalfClosed | None = None
        self._has_begun = False
        """Whether something of the answer to the current request has been written."""
        self._outlet: Outlet | None = None
        """None before it is connected, and after."""
        self._stall: WriteStall
        """From the moment it is connected."""
        self.has_stalled = False
        """Whether it was cut because the client took nothing for too long."""
        self._relay: Pausable | None = None
        self._receive: Callable[[bytes], None] | None = None
        self._resumed: asyncio.Event | None = None
        self.heads = HeadMemory()
        self.is_surplus = False
        """Whether too few file descriptors are left to carry a request that comes on it."""
        self.admission: object = None
        """What the desk wants to remember of the last request that it let in."""
        self.body_length: int | None = None
        """Of the request that is being answered, when its message is that of an earlier one with the same head; else
        the message itself says it."""
        self.task: asyncio.Task[None]
        """Carries one exchange after the other; it is cancelled when the client leaves."""

    # what an exchange asks of it

    @property
    def remote(self) -> str:
        """The client's address, for logs."""
        peer = self.transport.get_extra_info("peername") if self.transport is not None else None
        return str(peer[0]) if peer else "unknown"

    def attach_relay(self, relay: Pausable | None) -> None:
        """Tell *relay* from now on when the client stops and goes on reading."""
        self._relay = relay

    def hand_over(self, receive: Callable[[bytes], None]) -> None:
        """Let *receive* have what the client sends from now on: it is not HTTP any more, and FIN is the end of it."""
        self._receive = receive
        if self._half_closed is not None:
            self.abort()

    def write(self, data: bytes) -> None:
        """Write to the client; what goes to a client that has left goes nowhere."""
        if self._outlet is not None:
            if self._half_closed is not None and not self._has_begun:
                data = self._half_closed.rest_of(data)
            self._has_begun = not data.startswith(_INTERIM)
            self._outlet.write(data)

    def write_now(self, data: bytes) -> None:
        """Write to the client without waiting for what else is written in this turn of the event loop."""
        if self._outlet is not None:
            self._outlet.write_now(data)

    def write_last(self, data: bytes) -> None:
        """Write the end of an answer; writing is paused then until all has left."""
        if self._outlet is not None:
            self._outlet.write_last(data)
            if not self.writing_paused:
                self._outlet.go_on()

    async def deliver(self, pieces: deque[bytes]) -> None:
        """Write *pieces*, the end of an answer, as the client takes them, and wait until it has taken all.

        Each is forgotten once it is written. A client that leaves, or takes nothing for too long, cancels the wait.
        """
        while len(pieces) > 1:
            self.write_now(pieces.popleft())
            await self._resumption()
        self.write_last(pieces.popleft())
        await self.drained()

    def close(self) -> None:
        """Close the connection when all that was written has left, or the client takes none of it for too long."""
        if self._outlet is not None:
            self._outlet.close()
            self._stall.watch()

    def abort(self) -> None:
        """Cut the connection: what has been sent must not look finished."""
        if self._outlet is not None:
            self._outlet.abort()

    async def drained(self) -> None:
        """Wait, if writing is paused, until the client has taken all that was written."""
        if self.writing_paused and self._outlet is not None:
            self._outlet.write_last(b"")
            await self._resumption()

    @property
    def unsent(self) -> int:
        """How many bytes were written and have not left yet."""
        return self._outlet.unsent if self._outlet is not None else 0

    def may_follow(self, message: RawRequestMessage) -> bool:
        """Whether another request may follow that of *message*; the head of its answer says so."""
        # A client that has sent more already is told with the last of its answers.
        is_ending = self._reception.is_draining or self.is_surplus
        return can_stay_open(message) and (not is_ending or bool(self._waiting))

    @property
    def is_handed_over(self) -> bool:
        """Whether it does not carry HTTP any more, and therefore has no end of its own."""
        return self._receive is not None

    def end(self, grace_s: float) -> None:
        """Finish what has begun to come or is being answered, wait *grace_s* for what is on its way, and close."""
        self._patience.shorten(grace_s)

    async def _resumption(self) -> None:
        """Wait until writing is not paused."""
        while self.writing_paused and self.connected:
            self._resumed = asyncio.Event()
            await self._resumed.wait()

    # one request after the other

    async def _serve(self) -> None:
        try:
            while self._waiting or await self._is_next_there():
                self._patience.is_answering = True
                self._has_begun = False
                message, payload, self.body_length = self._take()
                try:
                    may_follow = await self._desk(self, message, payload)
                except Exception as exc:  # noqa: BLE001 - a defect of ours: the client gets an answer, the log the cause
                    self._crash(exc, message)
                    may_follow = False
                await self.drained()
                if isinstance(payload, StreamReader) and not payload.is_eof():
                    may_follow = await is_discarded(payload) and may_follow
                self._patience.rest()
                self._stall.watch()
                if not may_follow or self._is_ending:
                    if not self._is_ending and can_stay_open(message):
                        # The client knows nothing of this end yet, and may be sending its next requests.
                        await self._end_gently(LINGER_S)
                    break
            else:
                if self._waiting.malformed is not None:
                    self._refuse(*self._waiting.malformed)
                    await self._end_gently(LINGER_S)
                elif self._is_given_up:
                    # A request may be on its way all the same: its client is to find an end in good order.
                    grace_s = self._reception.grace_s
                    await self._end_gently(IDLE_LINGER_S if grace_s is None else min(IDLE_LINGER_S, grace_s))
        finally:
            self._close()

    async def _is_next_there(self) -> bool:
        """Wait for the next request; False when there will be none."""
        is_last = self._is_ending or self._is_given_up or self._half_closed is not None
        if self._waiting.malformed is None and not is_last:
            self._waiter = self._loop.create_future()
            await self._waiter
        return bool(self._waiting)

    async def _end_gently(self, linger_s: float) -> None:
        """Close the writing side, and drop what comes until the client has closed its own, for *linger_s* at most."""
        self._waiting.drop()
        if self._buffer_paused:
            self._resume_reading_for_buffer()
        if self._outlet is not None and self._half_closed is None:
            self._outlet.write_eof()
            await linger(linger_s)

    def _take(self) -> Request:
        """Take the next request, and read on when that had stopped because there were too many."""
        taken = self._waiting.take()
        if self._buffer_paused and self._waiting.has_room:
            self._resume_reading_for_buffer()
        return taken

    def _refuse(self, exc: HttpProcessingError, is_head: bool) -> None:
        """Answer what could not be parsed: in JSON, without an echo of it."""
        if isinstance(exc, LineTooLong):
            error = RequestError("headers_too_large", f"a line of the request may have {MAX_LINE} bytes", close=True)
        else:
            error = RequestError("bad_request", "the request is not well-formed HTTP/1.1", close=True)
        self.write(self._desk.malformed(self, error, is_head=is_head))

    def _crash(self, exc: Exception, message: RawRequestMessage) -> None:
        log.error("request_crashed", remote=self.remote, exc_info=exc)
        error = RequestError("internal_error", "a defect of the proxy; its log says more", close=True)
        self.write(self._desk.malformed(self, error, is_head=message.method == "HEAD"))

    def _stop_waiting(self) -> None:
        """Wait for no further request: none has come in time."""
        self._is_given_up = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _close(self) -> None:
        self._is_ending = True
        self.close()

    def _give_up(self) -> None:
        """Cut a client off that takes nothing of what was written for it."""
        self.has_stalled = True
        self.abort()

    # what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sock, descriptors = transport.get_extra_info("socket"), self._reception.descriptors
        room = Room.ENOUGH if descriptors is None else descriptors.room_for(sock.fileno())
        if room is Room.NONE:
            turn_away(transport)  # type: ignore[arg-type]
            return
        self.is_surplus = room is Room.LITTLE
        super().connection_made(transport)
        self._outlet = Outlet(transport, self._reception.outbox)  # type: ignore[arg-type]
        self._outlet.go_on()
        reception = self._reception
        self._stall = WriteStall(
            self._loop, self._outlet, sock.fileno(), limit_s=lambda: reception.write_stall_s, give_up=self._give_up
        )
        # A client that loses power says nothing: without this, what was begun for it would never end.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._reception.connections.add(self)
        self._patience.begin()
        if self.is_surplus:
            self._patience.shorten(SURPLUS_S)
        if self._reception.grace_s is not None:
            self._patience.shorten(self._reception.grace_s)
        self.task = tasks.start(self._serve(), name="client")

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._outlet = None
        self._reception.connections.discard(self)
        self._patience.end()
        self._stall.stop()
        if self._half_closed is not None:
            self._half_closed.stop()
            self._half_closed = None
        self._is_ending = True
        self._waiting.drop()
        # A client that leaves must stop the GPU that works for it.
        self.task.cancel()

    def eof_received(self) -> bool:
        """Go on answering a client that sends no more, as long as it reads; return whether there is such an answer."""
        waiting, transport = self._waiting, self.transport
        is_busy = self._patience.is_answering or waiting or waiting.malformed is not None
        if transport is None or self._receive is not None or not is_busy or not waiting.end():
            return False
        if self._has_begun and self._relay is not None and not self._relay.is_chunked:
            # Nothing can be sent ahead in the middle of this answer, so its client cannot be told from one that left.
            return False
        self._half_closed = HalfClosed(
            self._loop,
            transport.get_extra_info("socket"),
            next_is=self._next_is,
            write=self.write_now,
            leave=self.abort,
        )
        return True

    def _next_is(self) -> Next:
        if not self._has_begun:
            return Next.HEAD
        return Next.CHUNK if self._relay is not None and self._relay.is_chunked else Next.UNKNOWN

    def data_received(self, data: bytes) -> None:
        if self._receive is not None:
            self._receive(data)
            return
        waiting, patience = self._waiting, self._patience
        if waiting.is_deaf or (self._is_ending and not patience.is_answering):
            return
        is_found = waiting.read(data)
        if waiting.malformed is not None:
            patience.stop_awaiting_head()
            self._wake()
            return
        if is_found:
            self._wake()
            if waiting.is_full and not self._buffer_paused:
                self._pause_reading_for_buffer()
        if not (is_found or patience.is_answering):
            patience.head_began()
        elif patience.is_awaiting_head:
            patience.stop_awaiting_head()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
            if self._reception.outbox is not None:
                self._reception.outbox.expect()

    def pause_reading(self) -> None:
        # Not the parser, as aiohttp would: one that kept something back could be given bytes of the next request.
        self._reading_paused = True
        self._pause_transport_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: ARG002, FBT002 - aiohttp's signature
        # Bodies ask for it each time that they are read, mostly without a pause to end.
        if self._reading_paused:
            self._reading_paused = False
            if not self._buffer_paused:
                self._resume_transport_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall.watch()
        if self._relay is not None:
            self._relay.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._outlet is not None:
            self._outlet.go_on()
        if self._resumed is not None:
            self._resumed.set()
        if self._relay is not None:
            self._relay.resume()
