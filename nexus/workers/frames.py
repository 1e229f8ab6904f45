"""The messages between two processes as bytes: a length of four bytes, and MessagePack."""

import socket
from typing import Final, Literal

import msgspec

from nexus.errors import NexusError

MAX_FRAME_BYTES: Final = 32 * 2**20
"""The length of one message. The longest are pages of metrics and the rows of a large fleet, of a few MiB."""
LENGTH_BYTES: Final = 4

Kind = Literal["message", "question", "answer", "failure"]


class FrameTooLong(NexusError):
    """A message is longer than :data:`MAX_FRAME_BYTES`."""


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """One message. Both processes run the same version, so its members need no names."""

    kind: Kind
    number: int
    """Of the question, in it and in its answer; 0 for a message without an answer."""
    topic: str
    payload: msgspec.Raw = msgspec.Raw(b"\xc0")
    """MessagePack of the type that the topic has; by default, that of None."""


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """The payload of a ``failure``: why a question has no answer."""

    error: str
    """The name of the exception's class."""
    text: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)


def encode(kind: Kind, number: int, topic: str, payload: object) -> bytes:
    """Return the bytes of one message.

    :raises FrameTooLong: *payload* is too long.
    """
    frame = bytearray(LENGTH_BYTES)
    _encoder.encode_into((kind, number, topic, payload), frame, LENGTH_BYTES)
    size = len(frame) - LENGTH_BYTES
    if size > MAX_FRAME_BYTES:
        raise FrameTooLong(f"a message '{topic}' to another process of this proxy has {size} bytes")
    frame[:LENGTH_BYTES] = size.to_bytes(LENGTH_BYTES)
    return bytes(frame)


def receive(sock: socket.socket) -> Frame:
    """Read one message from a blocking socket, and no byte more.

    :raises EOFError: the other process has ended.
    :raises FrameTooLong: the message announces more than :data:`MAX_FRAME_BYTES`.
    """
    size = int.from_bytes(_exactly(sock, LENGTH_BYTES))
    if size > MAX_FRAME_BYTES:
        raise _too_long(size)
    return _decoder.decode(_exactly(sock, size))


def _exactly(sock: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        part = sock.recv(size - len(received))
        if not part:
            raise EOFError("the channel was closed in the middle of a message")
        received += part
    return bytes(received)


def _too_long(size: int) -> FrameTooLong:
    return FrameTooLong(f"another process of this proxy announces a message of {size} bytes")


class FrameReader:
    """Cuts a stream of bytes into messages, however the bytes arrive."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, received: bytes) -> list[Frame]:
        """Return the messages that *received* completes.

        :raises FrameTooLong: a message announces more than :data:`MAX_FRAME_BYTES`.
        :raises msgspec.DecodeError: the bytes are no message.
        """
        pending = self._pending
        pending += received
        frames: list[Frame] = []
        begin = 0
        while len(pending) - begin >= LENGTH_BYTES:
            size = int.from_bytes(pending[begin : begin + LENGTH_BYTES])
            if size > MAX_FRAME_BYTES:
                raise _too_long(size)
            end = begin + LENGTH_BYTES + size
            if len(pending) < end:
                break
            # A copy, because payloads refer to it.
            frames.append(_decoder.decode(bytes(pending[begin + LENGTH_BYTES : end])))
            begin = end
        if begin:
            del pending[:begin]
        return frames
