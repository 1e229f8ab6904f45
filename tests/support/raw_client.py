"""A client on a raw connection, which shows how a response is framed and where it is truncated."""

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final, Self

import msgspec

from tests.support.dialects import Dialect

NO_CONTENT: Final = 204
READ_AHEAD_BYTES: Final = 2**16
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with zero seconds: closing sends RST instead of FIN."""


class Reply(msgspec.Struct, frozen=True):
    """A response, which may be incomplete."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes
    is_whole: bool
    """Whether the framing of the body is complete."""

    @property
    def code(self) -> str:
        """The error code, in any protocol."""
        document = json.loads(self.body)
        error = document["error"]
        code: str = document["code"] if isinstance(error, str) else error["code"]
        return code

    def looks_finished(self, dialect: Dialect) -> bool:
        """Whether a stream is complete and ended without an error."""
        return self.is_whole and dialect.end in self.body and dialect.failure not in self.body


class RawClient:
    """One connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, *, receive_buffer: int | None = None) -> Self:
        """Connect to *port* of the loopback address; a small *receive_buffer* fills soon, for a slow reader."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(0)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        reader, writer = await asyncio.open_connection(sock=sock, limit=READ_AHEAD_BYTES)
        allow_any_end(writer)
        return cls(reader, writer)

    def send(self, dialect: Dialect, *, stream: bool = False, body: bytes | None = None, headers: str = "") -> None:
        """Send one request."""
        body = dialect.body(stream=stream) if body is None else body
        self.writer.write(dialect.request(body, headers=headers))

    async def reply(self) -> Reply:
        """Read one response, complete or not."""
        status, headers = await self.head()
        if status == NO_CONTENT:
            return Reply(status, headers, b"", is_whole=True)
        body, is_whole = await self.rest(headers)
        return Reply(status, headers, body, is_whole)

    async def head(self) -> tuple[int, Mapping[str, str]]:
        """Read the head of a response: its status, and its headers by lower-case name."""
        status_line, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        pairs = [line.split(": ", 1) for line in lines]
        return int(status_line.split(" ")[1]), {name.lower(): value for name, value in pairs}

    async def rest(self, headers: Mapping[str, str]) -> tuple[bytes, bool]:
        """Read the body, and return whether its framing is complete."""
        if "content-length" in headers:
            try:
                return await self.reader.readexactly(int(headers["content-length"])), True
            except asyncio.IncompleteReadError as exc:
                return exc.partial, False
        if headers.get("transfer-encoding") == "chunked":
            return await self._chunks()
        return await self.reader.read(), False

    async def _chunks(self) -> tuple[bytes, bool]:
        parts: list[bytes] = []
        try:
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                parts.append((await self.reader.readexactly(size + 2))[:-2])
            await self.reader.readexactly(2)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b"".join(parts), False
        return b"".join(parts), True

    def leave(self) -> None:
        """Disconnect with FIN, as a killed process does."""
        self.writer.close()

    def reset(self) -> None:
        """Disconnect with RST."""
        connection = self.writer.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.writer.transport.abort()


def allow_any_end(writer: asyncio.StreamWriter) -> None:
    """Retrieve the exception with which the connection of *writer* ends, as soon as it does.

    asyncio keeps it in a future that only a finaliser retrieves. If the future is collected first, a reset is reported
    as an exception that was never retrieved.
    """
    protocol: Any = writer.transport.get_protocol()
    closed: asyncio.Future[None] = protocol._closed
    closed.add_done_callback(_retrieve)


def _retrieve(closed: asyncio.Future[None]) -> None:
    if not closed.cancelled():
        closed.exception()
