"""One connection of one client: aiohttp's parser finds the requests, and one task answers them in turn."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import structlog
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpParser, HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web import RequestPayloadError

from nexus import tasks
from nexus.errors import RequestError
from nexus.proxy.heads import MAX_HEADERS, HeadMemory
from nexus.proxy.known_head import HeadBytes, Payload, UnseenBody, WholeBody
from nexus.proxy.outbox import Outbox, Outlet
from nexus.proxy.patience import Patience
from nexus.proxy.receiving import is_discarded

log = structlog.get_logger("nexus.proxy")

MAX_LINE: Final = 8190
PARSER_ALLOWANCE: Final = 2
"""The parser gives up only at this many times a limit: up to there a request is read, and refused in its own words."""
READ_BUFFER_BYTES: Final = 64 * 1024
WRITE_BUFFER_BYTES: Final = 64 * 1024
MOST_WAITING: Final = 32
"""Requests that a client may send ahead of the answers; no more are read until half of them are answered."""


class Pausable(Protocol):
    """Who must know when a client does not take any more."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Desk(Protocol):
    """Who answers."""

    async def __call__(self, client: "ClientConnection", message: RawRequestMessage, payload: Payload, /) -> bool:
        """Write the answer to one request; return whether another may follow on the connection."""

    def malformed(self, client: "ClientConnection", exc: RequestError) -> bytes:
        """Return the answer to bytes that are no request."""


class Reception(Protocol):
    """What all connections have in common."""

    loop: asyncio.AbstractEventLoop
    desk: Desk
    connections: "set[ClientConnection]"
    """Those that are open; each adds and removes itself."""
    headers_s: float
    """How long a head may take to come."""
    keepalive_s: float
    """How long a connection may stay open without a request."""
    outbox: Outbox | None
    """Where answers wait for those of the same turn."""


class ClientConnection(BaseProtocol):
    """The client's side of all that it asks for."""

    __slots__ = (
        "_desk",
        "_head_bytes",
        "_is_deaf",
        "_is_ending",
        "_last_payload",
        "_malformed",
        "_outlet",
        "_patience",
        "_receive",
        "_reception",
        "_relay",
        "_resumed",
        "_unseen",
        "_waiter",
        "_waiting",
        "admission",
        "body_length",
        "heads",
        "task",
    )

    transport: asyncio.Transport | None

    def __init__(self, reception: Reception) -> None:
        super().__init__(reception.loop)
        self._reception = reception
        self._desk = reception.desk
        self._parser = HttpRequestParser(
            self,
            reception.loop,
            READ_BUFFER_BYTES,
            max_line_size=PARSER_ALLOWANCE * MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=PARSER_ALLOWANCE * MAX_HEADERS,
            payload_exception=RequestPayloadError,
            auto_decompress=False,
            max_msg_queue_size=MOST_WAITING,
        )
        self._waiting: deque[tuple[RawRequestMessage, Payload, int | None]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._last_payload: Payload | None = None
        self._head_bytes = HeadBytes()
        self._unseen = UnseenBody()
        self._malformed: HttpProcessingError | None = None
        self._patience = Patience(
            reception.loop, headers_s=reception.headers_s, keepalive_s=reception.keepalive_s, close=self._close
        )
        self._is_ending = False
        self._is_deaf = False
        self._outlet: Outlet | None = None
        """None before it is connected, and after."""
        self._relay: Pausable | None = None
        self._receive: Callable[[bytes], None] | None = None
        self._resumed: asyncio.Event | None = None
        self.heads = HeadMemory()
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
        """Let *receive* have what the client sends from now on: it is not HTTP any more."""
        self._receive = receive

    def write(self, data: bytes) -> None:
        """Write to the client; what goes to a client that has left goes nowhere."""
        if self._outlet is not None:
            self._outlet.write(data)

    def write_now(self, data: bytes) -> None:
        """Write to the client without waiting for what else is written in this turn of the event loop."""
        if self._outlet is not None:
            self._outlet.write_now(data)

    def close(self) -> None:
        """Close the connection when all that was written has left, however long that takes."""
        if self._outlet is not None:
            self._outlet.close()

    def abort(self) -> None:
        """Cut the connection: what has been sent must not look finished."""
        if self._outlet is not None:
            self._outlet.abort()

    async def drained(self, stall_s: float) -> bool:
        """Wait until the client has taken what was written; one that takes nothing for *stall_s* seconds is cut off.

        Return whether it has taken it.
        """
        while self.writing_paused:
            unsent, resumed = self.unsent, asyncio.Event()
            self._resumed = resumed
            try:
                async with asyncio.timeout(stall_s):
                    await resumed.wait()
            except TimeoutError:
                if self.unsent >= unsent:
                    self.abort()
                    return False
        return True

    @property
    def unsent(self) -> int:
        """How many bytes were written and have not left yet."""
        return self._outlet.unsent if self._outlet is not None else 0

    def end(self) -> None:
        """Answer what is being answered, and nothing more."""
        self._is_ending = True
        if not (self._patience.is_answering or self._waiting):
            self._close()

    # one request after the other

    async def _serve(self) -> None:
        try:
            while self._waiting or await self._is_next_there():
                self._patience.is_answering = True
                message, payload, self.body_length = self._take()
                try:
                    may_follow = await self._desk(self, message, payload)
                except Exception as exc:  # noqa: BLE001 - a defect of ours: the client gets an answer, the log the cause
                    self._crash(exc)
                    may_follow = False
                if isinstance(payload, StreamReader) and not payload.is_eof():
                    may_follow = await is_discarded(payload) and may_follow
                self._patience.rest()
                if not may_follow or self._is_ending:
                    break
            else:
                if self._malformed is not None:
                    self._refuse(self._malformed)
        finally:
            self._close()

    async def _is_next_there(self) -> bool:
        """Wait for the next request; False when there will be none."""
        if self._malformed is None and not self._is_ending:
            self._waiter = self._loop.create_future()
            await self._waiter
        return bool(self._waiting)

    def _take(self) -> tuple[RawRequestMessage, Payload, int | None]:
        """Take the next request, and let the parser go on when it had to stop for too many of them."""
        taken = self._waiting.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
            if self._buffer_paused and len(self._waiting) <= MOST_WAITING // 2:
                # It has found, and keeps back, what it read before it stopped.
                self.data_received(b"")
                if len(self._waiting) < MOST_WAITING:
                    self._resume_reading_for_buffer()
        return taken

    def _refuse(self, exc: HttpProcessingError) -> None:
        """Answer what could not be parsed: in JSON, without an echo of it."""
        if isinstance(exc, LineTooLong):
            error = RequestError("headers_too_large", f"a line of the request may have {MAX_LINE} bytes", close=True)
        else:
            error = RequestError("bad_request", "the request is not well-formed HTTP/1.1", close=True)
        self.write(self._desk.malformed(self, error))

    def _crash(self, exc: Exception) -> None:
        log.error("request_crashed", remote=self.remote, exc_info=exc)
        error = RequestError("internal_error", "a defect of the proxy; its log says more", close=True)
        self.write(self._desk.malformed(self, error))

    def _close(self) -> None:
        self._is_ending = True
        self.close()

    # what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._outlet = Outlet(transport, self._reception.outbox)  # type: ignore[arg-type]
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)  # type: ignore[attr-defined]
        sock = transport.get_extra_info("socket")
        # A client that loses power says nothing: without this, what was begun for it would never end.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._reception.connections.add(self)
        self._patience.begin()
        self.task = tasks.start(self._serve(), name="client")

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._outlet = None
        self._reception.connections.discard(self)
        self._patience.end()
        self._is_ending = True
        # They know each other: without this, only the collector would free them.
        self._parser = None
        # A client that leaves must stop the GPU that works for it.
        self.task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._receive is not None:
            self._receive(data)
            return
        if self._unseen.left:
            data = self._unseen.feed(data)
            if not data:
                return
        parser = self._parser
        if parser is None or self._is_deaf or (self._is_ending and not self._patience.is_answering):
            return
        is_found = self._begin_known(data) or self._parse(parser, data)
        patience = self._patience
        if not patience.is_awaiting_head:
            if data and not is_found and not patience.is_answering:
                patience.await_head()
        elif is_found or patience.is_answering:
            patience.stop_awaiting_head()

    def _parse(self, parser: HttpParser[Any], data: bytes) -> bool:
        """Let the parser find requests in *data*; whether there are any."""
        try:
            found, is_upgraded, _ = parser.feed_data(data)
        except HttpProcessingError as exc:
            self._break(exc)
            return False
        self._head_bytes.was_parsed(data, found)
        # What follows an upgrade is not HTTP; nor is it anything that we speak.
        self._is_deaf = is_upgraded
        if found:
            self._queue([(message, payload, None) for message, payload in found])
        return bool(found)

    def _begin_known(self, data: bytes) -> bool:
        """Take *data* for a request with the head of the one before, without the parser; False when it is none."""
        known = self._head_bytes.known(data)
        if known is None or (self._last_payload is not None and not self._last_payload.is_eof()):
            return False
        message, length, start = known
        have = len(data) - start
        if have > length:
            return False
        payload: Payload
        if have == length:
            payload = WholeBody(data[start:])
        else:
            payload = StreamReader(self, READ_BUFFER_BYTES, loop=self._loop)
            self._unseen.begin(payload, length)
            self._unseen.feed(data[start:])
        self._queue([(message, payload, length)])
        return True

    def _queue(self, found: Sequence[tuple[RawRequestMessage, Payload, int | None]]) -> None:
        self._waiting.extend(found)
        self._last_payload = found[-1][1]
        self._wake()
        if not self._buffer_paused and len(self._waiting) >= MOST_WAITING:
            self._pause_reading_for_buffer()

    def _break(self, exc: HttpProcessingError) -> None:
        """Note that there is no request any more in what comes, and no end of the body that was coming."""
        self._is_deaf = True
        self._malformed = exc
        self._patience.stop_awaiting_head()
        payload = self._last_payload
        if isinstance(payload, StreamReader) and not payload.is_eof():
            payload.set_exception(RequestPayloadError())
            # Nothing of it is left to be read and thrown away before the connection is closed.
            payload.feed_eof()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
            if self._reception.outbox is not None:
                self._reception.outbox.expect()

    def pause_reading(self) -> None:
        if self._unseen.left:
            # The parser has nothing to do with this body, and would go on sleeping after it.
            self._reading_paused = True
            self._pause_transport_reading()
        else:
            super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT002 - aiohttp's signature
        # Whoever reads a body asks for it each time, mostly without a pause to end.
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._relay is not None:
            self._relay.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._resumed is not None:
            self._resumed.set()
        if self._relay is not None:
            self._relay.resume()
