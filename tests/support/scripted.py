"""A backend that plays a script on each raw connection, for faults that a regular server cannot produce."""

import asyncio
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from ssl import SSLContext
from types import TracebackType
from typing import Any, Final, Literal, Self

import msgspec

from tests.support.raw_client import allow_any_end

MAX_HEAD_BYTES: Final = 256 * 1024
ARRIVAL_S: Final = 0.02
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with zero seconds: closing sends RST instead of FIN."""

Cause = Literal["played", "client_left", "stopped"]
"""The script was played to its end, the client disconnected before, or the backend was stopped."""


class ReadHead(msgspec.Struct, frozen=True):
    """Read the head of a request, and nothing of its body."""


class ReadRequest(msgspec.Struct, frozen=True):
    """Read a complete request."""


class Send(msgspec.Struct, frozen=True):
    """Send bytes unchanged."""

    wire: bytes


class Wait(msgspec.Struct, frozen=True):
    """Wait, or until the client disconnects."""

    seconds: float


class Stall(msgspec.Struct, frozen=True):
    """Wait until the client disconnects."""


class Ignore(msgspec.Struct, frozen=True):
    """Read nothing for a while, even if the client disconnects."""

    seconds: float


class Close(msgspec.Struct, frozen=True):
    """Send FIN."""


class Reset(msgspec.Struct, frozen=True):
    """Send RST."""


Step = ReadHead | ReadRequest | Send | Wait | Stall | Ignore | Close | Reset
Script = Sequence[Step]


class Attempt(msgspec.Struct, kw_only=True):
    """What happened on one connection. Times are monotonic."""

    start: float
    received: bytes = b""
    """The bytes that were read."""
    first_byte: float | None = None
    """When the first byte was sent, if any."""
    end: float | None = None
    cause: Cause | None = None
    """None while it is open."""


class ScriptedBackend:
    """Plays the first script on the first connection, the second on the second, and the last on all that follow.

    A script that did not close the connection waits for the client to disconnect::

        async with ScriptedBackend([ReadRequest(), Send(b"HTTP/1.1 200 OK\\r\\n"), Reset()]) as backend:
            ...  # talk to backend.url
            assert backend.attempts[0].cause == "played"
    """

    def __init__(self, *scripts: Script, tls: SSLContext | None = None) -> None:
        self.attempts: list[Attempt] = []
        self._scripts = scripts
        self._tls = tls
        self._playing: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        return sum(attempt.end is None for attempt in self.attempts)

    def play(self, *scripts: Script) -> None:
        """Replace the scripts, starting with the first, and drop the attempts so far."""
        self._scripts = scripts
        self.attempts.clear()

    async def ended(self) -> None:
        """Wait until all connections so far have ended."""
        await asyncio.gather(*self._playing, return_exceptions=True)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, ssl=self._tls, limit=MAX_HEAD_BYTES, backlog=1024
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for playing in self._playing:
            playing.cancel()
        await asyncio.gather(*self._playing, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        playing = asyncio.current_task()
        assert playing is not None
        self._playing.add(playing)
        playing.add_done_callback(self._playing.discard)
        allow_any_end(writer)
        attempt = Attempt(start=time.monotonic())
        script = self._scripts[min(len(self.attempts), len(self._scripts) - 1)]
        self.attempts.append(attempt)
        try:
            attempt.cause = await _Stage(reader, writer, attempt).play(script)
        except asyncio.CancelledError:
            attempt.cause = "stopped"
            writer.transport.abort()
        finally:
            attempt.end = time.monotonic()


class _ClientLeft(Exception):
    """The client closed or reset the connection."""


class _Stage:
    """Plays a script on one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, attempt: Attempt) -> None:
        self._reader = reader
        self._writer = writer
        self._attempt = attempt
        self._acts: Mapping[type[Step], Callable[[Any], Awaitable[object]]] = {
            ReadHead: self._read_head,
            ReadRequest: self._read_request,
            Send: self._send,
            Wait: self._wait,
            Stall: self._stall,
            Ignore: self._ignore,
            Close: self._close,
            Reset: self._reset,
        }

    async def play(self, script: Script) -> Cause:
        try:
            for step in script:
                await self._acts[type(step)](step)
                if self._writer.is_closing():
                    return "played"
            await self._stall(Stall())
        except (_ClientLeft, asyncio.IncompleteReadError, ConnectionError):
            self._writer.transport.abort()
        return "client_left"

    async def _read_head(self, step: ReadHead | ReadRequest) -> bytes:
        del step
        head = await self._reader.readuntil(b"\r\n\r\n")
        self._attempt.received += head
        return head

    async def _read_request(self, step: ReadRequest) -> None:
        head = await self._read_head(step)
        if re.search(rb"\r\ntransfer-encoding: *chunked", head, re.IGNORECASE):
            while size := int(await self._read_line(), 16):
                self._attempt.received += await self._reader.readexactly(size + 2)
            await self._read_line()
        elif length := re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE):
            self._attempt.received += await self._reader.readexactly(int(length[1]))

    async def _read_line(self) -> bytes:
        line = await self._reader.readuntil(b"\r\n")
        self._attempt.received += line
        return line

    async def _send(self, step: Send) -> None:
        if self._attempt.first_byte is None and step.wire:
            self._attempt.first_byte = time.monotonic()
        self._writer.write(step.wire)
        await self._writer.drain()

    async def _wait(self, step: Wait) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(step.seconds):
                await self._stall(Stall())

    async def _stall(self, step: Stall) -> None:
        del step
        while more := await self._reader.read(65536):
            self._attempt.received += more
        raise _ClientLeft

    async def _ignore(self, step: Ignore) -> None:
        await asyncio.sleep(step.seconds)

    async def _close(self, step: Close) -> None:
        del step
        self._writer.close()

    async def _reset(self, step: Reset) -> None:
        del step
        # Let the client receive what was sent: RST discards it.
        await asyncio.sleep(ARRIVAL_S)
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._writer.transport.abort()
