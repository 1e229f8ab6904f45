"""Writes of one turn of the event loop, sent together at its end.

Whoever is written to wakes up, answers, and sleeps again, often before the next write is ready: each write then pays
for waking somebody. Sent in a row, they find their readers awake; a loaded proxy spends half as much in the kernel.
"""

import asyncio
from collections.abc import Callable
from typing import Final

WRITE_BUFFER_BYTES: Final = 64 * 1024
"""As much waits for a reader before its writer pauses."""
MAX_BATCHED_BYTES: Final = 16 * 1024
"""More than this in one write is sent at once: its transport must know of it, to say when its reader is too slow."""
MAX_BATCHED: Final = 32
"""Writes that are sent together; more would only keep the first of them waiting."""


class WriteBatch:
    """All that is going to be written in this turn, by whoever shares an event loop.

    Who was woken to write something is announced (:meth:`expect`), and the last of them sends for all: so a request
    that is alone is never kept waiting. Should somebody not write after all, what is held goes out in the next turn.
    """

    __slots__ = ("_expected", "_is_due", "_loop", "_outlets")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._outlets: list[BatchedWriter] = []
        self._expected = 0
        self._is_due = False
        """Whether what is held is looked at in the next turn."""

    def expect(self) -> None:
        """Note that somebody was woken who is going to write."""
        self._expected += 1

    def put(self, writer: "BatchedWriter") -> None:
        """Let *outlet* send what it holds: now, or when others do."""
        self._outlets.append(writer)
        self._expected -= 1
        if self._expected <= 0 or len(self._outlets) >= MAX_BATCHED:
            self._send_all()
        elif not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._send_left)

    def _send_left(self) -> None:
        self._is_due = False
        if self._outlets:
            # Some of those expected have not written; who else is still to come, nobody knows.
            self._expected = 0
            self._send_all()

    def _send_all(self) -> None:
        self._expected = max(0, self._expected)
        outlets, self._outlets = self._outlets, []
        for writer in outlets:
            writer.send()


class BatchedWriter:
    """The writing end of one connection: what is written goes out in its order, or not at all when that is closed."""

    __slots__ = ("_batch", "_held", "_may_leave", "_transport", "written")

    def __init__(
        self,
        transport: asyncio.Transport,
        batch: WriteBatch | None = None,
        may_leave: Callable[[], bool] | None = None,
    ) -> None:
        """:param outbox: None: everything is sent at once.
        :param may_leave: asked just before what :meth:`write` was given is sent; False keeps it from being sent, and
            the connection that says so drops it.
        """
        self._transport = transport
        self._batch = batch
        self._may_leave = may_leave
        self._held = b""
        self.written = 0
        """How many bytes the transport was given."""

    @property
    def unsent(self) -> int:
        """How many bytes were written and have not left yet."""
        return len(self._held) + self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send *data* by the end of this turn."""
        if self._held or len(data) > MAX_BATCHED_BYTES or self._batch is None:
            if self._may_leave is None or self._may_leave():
                self.write_now(data)
        else:
            self._held = data
            self._batch.put(self)

    def write_now(self, data: bytes) -> None:
        """Send *data*, and before it what is held."""
        if self._held:
            data, self._held = self._held + data, b""
        if data and not self._transport.is_closing():
            self.written += len(data)
            self._transport.write(data)

    def write_last(self, data: bytes) -> None:
        """Send *data* as :meth:`write_now` does; the protocol is told of a pause unless all of it leaves at once.

        The pause lasts until all has left, and :meth:`go_on` ends what it asks of the transport.
        """
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high=0)
            self.write_now(data)

    def go_on(self) -> None:
        """Let :data:`WRITE_BUFFER_BYTES` wait for the reader before the protocol is told of a pause."""
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def send(self) -> None:
        """Send what is held."""
        if self._held and (self._may_leave is None or self._may_leave()):
            self.write_now(b"")

    def drop(self) -> None:
        """Forget what is held."""
        self._held = b""

    def close(self) -> None:
        """Close the connection once all that was written has left."""
        self.send()
        self._transport.close()

    def write_eof(self) -> None:
        """Close the writing side of the connection once all that was written has left."""
        self.send()
        if not self._transport.is_closing():
            self._transport.write_eof()

    def abort(self) -> None:
        """Close the connection at once."""
        self._held = b""
        self._transport.abort()
