"""Sends an answer on a connection."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from http import HTTPStatus

import msgspec

from nexus.simulator.connection import Connection
from nexus.simulator.dialects import Dialect
from nexus.simulator.messages import Answer, Events
from nexus.simulator.recording import Record

PIECE_BYTES = 256 * 1024

Write = Callable[[bytes], Awaitable[None]]
"""Sends bytes, and returns when the write buffer has room."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """Where an answer is sent and recorded."""

    connection: Connection
    dialect: Dialect
    record: Record
    has_body: bool = True
    """False for the answer to a HEAD request."""

    async def write(self, wire: bytes) -> None:
        # In pieces: a large body is not copied into the write buffer at once.
        view = memoryview(wire)
        for at in range(0, len(wire), PIECE_BYTES):
            self.connection.write(view[at : at + PIECE_BYTES])
            await self.connection.drain()


async def send(delivery: Delivery, answer: Answer, write: Write) -> None:
    """Send *answer*, and close the connection if the kind does."""
    delivery.record.status = answer.status
    closes = delivery.connection.is_last_request or answer.is_last
    if isinstance(answer.body, bytes):
        is_error = answer.status >= HTTPStatus.BAD_REQUEST and delivery.dialect.closes_after_error
        closes = closes or is_error
        head = head_of(answer, delivery.dialect, {"Content-Length": str(len(answer.body))}, closes=closes)
        await write(head + (answer.body if delivery.has_body else b""))
    else:
        head = head_of(answer, delivery.dialect, {"Transfer-Encoding": "chunked"}, closes=closes)
        await send_events(delivery, head, answer.body, write)
        await write(b"0\r\n\r\n")
        closes = closes or delivery.dialect.closes_after_stream
    if closes:
        delivery.connection.close()


async def send_events(delivery: Delivery, head: bytes, events: Events, write: Write) -> None:
    """Send the head when the kind does, and each event as one chunk."""
    is_head_sent = delivery.dialect.head_at != "first_token"
    if is_head_sent:
        await write(head)
    async with aclosing(events):
        async for event in events:
            await write((b"" if is_head_sent else head) + chunk(event.wire))
            is_head_sent = True
            delivery.record.events_sent += 1
    if not is_head_sent:
        await write(head)


def head_of(answer: Answer, dialect: Dialect, framing: Mapping[str, str], *, closes: bool = False) -> bytes:
    """Return the status line and the headers."""
    content_type = {"Content-Type": answer.content_type} if answer.content_type else {}
    fields = {**content_type, **answer.headers, **framing}
    if dialect.server:
        fields["Server"] = dialect.server
    if dialect.closes_after_stream and not closes:
        # llama.cpp sends this even though it closes at once.
        fields["Keep-Alive"] = "timeout=5, max=100"
    if closes:
        fields["Connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {answer.status} {_reason(answer.status)}\r\n{lines}\r\n".encode("latin-1")


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


async def silence() -> None:
    """Wait until the client disconnects, which cancels the task."""
    await asyncio.Event().wait()


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
