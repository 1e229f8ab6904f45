"""One HTTP/1.1 connection of a simulated server, with full control of what is sent and when."""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import count
from typing import cast

import httptools

from nexus.simulator.messages import Request

MAX_BODY_BYTES = 256 * 1024 * 1024
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with zero seconds: closing sends RST instead of FIN."""

_numbers = count(1)


class Connection(asyncio.Protocol):
    """Reads requests and answers them in order.

    A half-close by the client ends the connection, as in vLLM and llama.cpp.
    """

    def __init__(
        self,
        serve: Callable[["Connection", Request], Awaitable[None]],
        open_connections: set["Connection"],
        idle_s: float | None,
    ) -> None:
        self.number = next(_numbers)
        self._serve = serve
        self._open_connections = open_connections
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._received: deque[Request] = deque()
        self._arrival = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._is_serving = False
        self._is_lost = False
        self.is_last_request = False
        """The connection closes after this request."""

    # Used while answering

    def write(self, wire: bytes | memoryview) -> None:
        if not self._is_lost:
            self._transport.write(wire)

    async def drain(self) -> None:
        """Wait until the write buffer has room."""
        await self._writable.wait()

    def close(self) -> None:
        """Flush the write buffer, then send FIN."""
        self._transport.close()

    def reset(self) -> None:
        """Send RST now, and discard the write buffer."""
        if (sock := self._transport.get_extra_info("socket")) is not None and not self._is_lost:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._transport.abort()

    def close_after_answer(self, *, kill: bool) -> None:
        """Accept no further request: close when idle, else after the current answer, or reset if *kill*."""
        self.is_last_request = True
        if self._is_serving:
            if kill:
                self.reset()
        else:
            self.close()

    async def abandon(self) -> None:
        """Abort the connection, and wait for its task to end."""
        self._transport.abort()
        await asyncio.gather(self._task, return_exceptions=True)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not instances of asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)
        self._open_connections.add(self)
        self._task = self._loop.create_task(self._answer_all(), name=f"simulator connection {self.number}")

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(b"501 Not Implemented")
        except httptools.HttpParserError:
            self._refuse(b"400 Bad Request")

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._is_lost = True
        self._open_connections.discard(self)
        self._stop_idling()
        self._task.cancel()

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._stop_idling()
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = bytearray()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        if (name.lower(), value.lower()) == (b"expect", b"100-continue"):
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > MAX_BODY_BYTES:
            self._refuse(b"413 Content Too Large")

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        target = self._target.decode("latin-1")
        self.is_last_request = not self._parser.should_keep_alive()
        self._received.append(Request(method, target, tuple(self._headers), bytes(self._body)))
        self._arrival.set()
        # Back-pressure for pipelined requests.
        if len(self._received) > 1:
            self._transport.pause_reading()

    # The task of the connection

    async def _answer_all(self) -> None:
        try:
            while not self._transport.is_closing():
                request = await self._next_request()
                self._is_serving = True
                await self._serve(self, request)
                self._is_serving = False
                if self.is_last_request and not self._received:
                    return
        finally:
            self.close()

    async def _next_request(self) -> Request:
        while not self._received:
            self._arrival.clear()
            self._start_idling()
            await self._arrival.wait()
        request = self._received.popleft()
        self._transport.resume_reading()
        return request

    def _refuse(self, status: bytes) -> None:
        self.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self.close()

    def _start_idling(self) -> None:
        if self._idle_s is not None:
            self._idle_timer = self._loop.call_later(self._idle_s, self.close)

    def _stop_idling(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None


class HangUpAtOnce(asyncio.Protocol):
    """Closes a connection as soon as it is accepted."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
