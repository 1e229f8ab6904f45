"""A WebSocket to somebody who looks on: frames go out, and of what comes in only control frames matter."""

import asyncio
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from hashlib import sha1
from time import monotonic
from typing import Final, Protocol

from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import ProtocolError

from nexus.errors import RequestError

MOST_UNSENT_BYTES: Final = 1024 * 1024
"""A viewer that has so much to take yet gets nothing more until it has taken it."""
PING_S: Final = 20.0
_KEY_BYTES: Final = 16
_ACCEPT_SALT: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Line(Protocol):
    """The client's connection, as far as a socket needs it."""

    @property
    def unsent(self) -> int: ...

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None: ...


def accept(headers: Mapping[str, str]) -> bytes:
    """Return the answer that begins a WebSocket.

    :param headers: of the request; names in any letter case.
    :raises RequestError: it does not ask for a WebSocket.
    """
    is_asked_for = "upgrade" in re.split(r"[,\s]+", headers.get("Connection", "").lower())
    if not is_asked_for or headers.get("Upgrade", "").lower() != "websocket":
        raise RequestError("upgrade_required", "this path speaks WebSocket", headers={"Upgrade": "websocket"})
    if headers.get("Sec-WebSocket-Version") != "13":
        raise RequestError("upgrade_required", "speak version 13", headers={"Sec-WebSocket-Version": "13"})
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        is_key = len(b64decode(key, validate=True)) == _KEY_BYTES
    except (Base64Error, ValueError):
        is_key = False
    if not is_key:
        raise RequestError("bad_request", "Sec-WebSocket-Key is missing or malformed")
    accepted = b64encode(sha1(key.encode() + _ACCEPT_SALT).digest())  # noqa: S324 - RFC 6455 says so; it hides nothing
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n" % accepted
    )


def text_frame(text: str) -> bytes:
    """Return *text* as one frame; the same bytes serve every viewer."""
    return Connection(ConnectionType.SERVER).send(TextMessage(text))


class Socket:
    """One WebSocket that has begun."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._connection = Connection(ConnectionType.SERVER)
        self._over = asyncio.Event()
        self._heard_at = monotonic()

    def send(self, frames: bytes) -> bool:
        """Write what :func:`text_frame` made; return False, and write nothing, when the viewer is too far behind."""
        return not self._over.is_set() and self._write(frames)

    def receive(self, chunk: bytes) -> None:
        """Take what came from the viewer: pings are answered, messages are of no interest."""
        self._heard_at = monotonic()
        try:
            self._connection.receive_data(chunk)
            for event in self._connection.events():
                self._take(event)
        except ProtocolError:
            self.close(CloseReason.PROTOCOL_ERROR)

    def close(self, reason: CloseReason = CloseReason.GOING_AWAY) -> None:
        """Say that it is over, and cut a viewer off that is too far behind for that; a second time says nothing."""
        if not self._over.is_set():
            self._over.set()
            if not self._write(self._connection.send(CloseConnection(reason))):
                self._line.abort()

    async def over(self) -> None:
        """Wait until it is over, and see to it that a viewer who is gone without a word is noticed."""
        while not self._over.is_set():
            try:
                async with asyncio.timeout(PING_S):
                    await self._over.wait()
            except TimeoutError:
                if monotonic() - self._heard_at > 2 * PING_S:
                    self._over.set()
                    self._line.abort()
                else:
                    self._write(self._connection.send(Ping()))

    def _take(self, event: object) -> None:
        match event:
            case Ping():
                self._write(self._connection.send(event.response()))
            case CloseConnection() if not self._over.is_set():
                self._over.set()
                self._write(self._connection.send(event.response()))

    def _write(self, frames: bytes) -> bool:
        """Write *frames*, unless the viewer is too far behind; return whether they were written."""
        if self._line.unsent > MOST_UNSENT_BYTES:
            return False
        self._line.write(frames)
        return True
