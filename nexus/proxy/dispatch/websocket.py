"""A WebSocket that sends text frames to a viewer, and reads only control frames."""

import asyncio
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from hashlib import sha1
from time import monotonic
from typing import Final

from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import ProtocolError

from nexus.errors import RequestError
from nexus.proxy.client.connection import ClientConnection

MAX_UNSENT_BYTES: Final = 1024 * 1024
"""A viewer gets no further frames while more than this is unsent."""
PING_S: Final = 20.0
_KEY_BYTES: Final = 16
_ACCEPT_SALT: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept(headers: Mapping[str, str]) -> bytes:
    """Return the head of the response that opens a WebSocket, without its final empty line.

    :param headers: of the request; names in any letter case.
    :raises RequestError: the request opens no WebSocket.
    """
    is_upgrade = "upgrade" in re.split(r"[,\s]+", headers.get("Connection", "").lower())
    if not is_upgrade or headers.get("Upgrade", "").lower() != "websocket":
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
    accepted = b64encode(sha1(key.encode() + _ACCEPT_SALT).digest())  # noqa: S324 - RFC 6455 prescribes it
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n" % accepted
    )


def text_frame(text: str) -> bytes:
    """Return *text* as one frame, which can be sent to all viewers."""
    return _ENCODER.send(TextMessage(text))


_ENCODER: Final = Connection(ConnectionType.SERVER)
"""Of whole messages, which leave no state. One for each would be freed by the garbage collector only."""


class Socket:
    """One open WebSocket."""

    def __init__(self, writer: ClientConnection) -> None:
        self._writer = writer
        self._connection = Connection(ConnectionType.SERVER)
        self._over = asyncio.Event()
        self._received_at = monotonic()

    def send(self, frames: bytes) -> bool:
        """Send the results of :func:`text_frame`; return False, and send nothing, if the viewer is too far behind."""
        return not self._over.is_set() and self._write(frames)

    def receive(self, chunk: bytes) -> None:
        """Read bytes from the viewer: pings are answered, messages are ignored."""
        self._received_at = monotonic()
        try:
            self._connection.receive_data(chunk)
            for event in self._connection.events():
                self._take(event)
        except ProtocolError:
            self.close(CloseReason.PROTOCOL_ERROR)

    def close(self, reason: CloseReason = CloseReason.GOING_AWAY) -> None:
        """Send a close frame, or reset the connection if the viewer is too far behind; does nothing a second time."""
        if not self._over.is_set():
            self._over.set()
            if not self._write(self._connection.send(CloseConnection(reason))):
                self._writer.abort()

    async def over(self) -> None:
        """Wait for the end, and send pings, so that a viewer that has vanished is noticed."""
        while not self._over.is_set():
            try:
                async with asyncio.timeout(PING_S):
                    await self._over.wait()
            except TimeoutError:
                if monotonic() - self._received_at > 2 * PING_S:
                    self._over.set()
                    self._writer.abort()
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
        if self._writer.unsent > MAX_UNSENT_BYTES:
            return False
        self._writer.write(frames)
        return True
