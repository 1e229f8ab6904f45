"""Sends the writes of one turn of the event loop together, at its end.

A client or backend that receives something wakes up, replies, and sleeps again, often before the next write is ready:
each write then pays for waking one. Sent in a row, the writes find their readers awake, and a loaded proxy spends half
as much time in the kernel.
"""

import asyncio
from collections.abc import Callable
from typing import Final

WRITE_BUFFER_BYTES: Final = 64 * 1024
"""How much is buffered for a slow reader before writing pauses."""
MAX_BATCHED_BYTES: Final = 16 * 1024
"""A larger write is sent at once, so that its transport can tell when the reader is too slow."""
MAX_BATCHED: Final = 32
"""Writes that are sent together; more would only delay the first of them."""


class WriteBatch:
    """The writes of one turn of the event loop, on all connections.

    Each task that is woken to write is announced (:meth:`expect`), and the last of their writes sends all: a lone
    request never waits. If an announced write does not come, the rest is sent in the next turn.
    """

    __slots__ = ("_expected", "_is_scheduled", "_loop", "_writers")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._writers: list[BatchedWriter] = []
        self._expected = 0
        self._is_scheduled = False
        """Whether the next turn sends what is left."""

    def expect(self) -> None:
        """Announce that a task was woken to write."""
        self._expected += 1

    def count_lone_write(self) -> bool:
        """Count a write that is sent at once; return False, and count nothing, if others are held or announced."""
        if self._writers or self._expected > 1:
            return False
        self._expected = 0
        return True

    def put(self, writer: "BatchedWriter") -> None:
        """Let *writer* send what it holds: now, or together with others."""
        self._writers.append(writer)
        self._expected -= 1
        if self._expected <= 0 or len(self._writers) >= MAX_BATCHED:
            self._send_all()
        elif not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._send_left)

    def _send_left(self) -> None:
        self._is_scheduled = False
        if self._writers:
            # Some announced writes did not come; how many still may is unknown.
            self._expected = 0
            self._send_all()

    def _send_all(self) -> None:
        self._expected = max(0, self._expected)
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.send()


class BatchedWriter:
    """Writes to one connection, in order; drops what is written after it was closed."""

    __slots__ = ("_batch", "_held", "_may_leave", "_transport", "written")

    def __init__(
        self,
        transport: asyncio.Transport,
        batch: WriteBatch | None = None,
        may_leave: Callable[[], bool] | None = None,
    ) -> None:
        """:param batch: None: each write is sent at once.
        :param may_leave: called just before what :meth:`write` was given is sent; if it returns False, this is not
            sent, and the connection has to :meth:`drop` it.
        """
        self._transport = transport
        self._batch = batch
        self._may_leave = may_leave
        self._held = b""
        self.written = 0
        """How many bytes were passed to the transport."""

    @property
    def unsent(self) -> int:
        """How many bytes were written and are still in this process."""
        return len(self._held) + self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send *data* by the end of this turn."""
        if self._held or len(data) > MAX_BATCHED_BYTES or self._batch is None or self._batch.count_lone_write():
            if self._may_leave is None or self._may_leave():
                self.write_now(data)
        else:
            self._held = data
            self._batch.put(self)

    def write_now(self, data: bytes) -> None:
        """Send what is held, and *data*."""
        if self._held:
            data, self._held = self._held + data, b""
        if data and not self._transport.is_closing():
            self.written += len(data)
            self._transport.write(data)

    def write_last(self, data: bytes) -> None:
        """Send *data* as :meth:`write_now` does; unless all of it leaves at once, writing is paused until it has left.

        Call :meth:`allow_buffering` after the pause.
        """
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high=0)
            self.write_now(data)

    def allow_buffering(self) -> None:
        """Let :data:`WRITE_BUFFER_BYTES` be unsent before writing is paused."""
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def send(self) -> None:
        """Send what is held."""
        if self._held and (self._may_leave is None or self._may_leave()):
            self.write_now(b"")

    def drop(self) -> None:
        """Drop what is held."""
        self._held = b""

    def detach(self) -> None:
        """Drop what is held, and the reference to the connection, which is lost."""
        self._held = b""
        self._may_leave = None

    def close(self) -> None:
        """Close the connection once everything written has left."""
        self.send()
        self._transport.close()

    def write_eof(self) -> None:
        """Close the writing side of the connection once everything written has left."""
        self.send()
        if not self._transport.is_closing():
            self._transport.write_eof()

    def abort(self) -> None:
        """Close the connection at once."""
        self._held = b""
        self._transport.abort()
