"""A clock, a transport, a client and a response sink that a test controls."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Literal

from aiohttp.http import RawRequestMessage

from nexus.error_codes import UpstreamFault
from nexus.proxy.headers.from_client import can_stay_open


class FakeTimer:
    """A call that a :class:`FakeClock` makes when its time comes."""

    def __init__(self, clock: "FakeClock", due: float, call: Callable[[], object]) -> None:
        self.due = due
        self.call = call
        self._clock = clock

    def cancel(self) -> None:
        if self in self._clock.timers:
            self._clock.timers.remove(self)


class FakeClock:
    """A clock that moves only when the test moves it: set ``now``, or let timers run with :meth:`advance`.

    It can stand for a function, the module ``time``, and the timers of an event loop.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self.timers: list[FakeTimer] = []
        """Those that are neither due nor cancelled."""

    def __call__(self) -> float:
        return self.now

    time = monotonic = __call__

    def call_later(self, delay_s: float, call: Callable[[], object]) -> FakeTimer:
        self.timers.append(FakeTimer(self, self.now + delay_s, call))
        return self.timers[-1]

    def advance(self, seconds: float) -> None:
        """Let time pass, and make the calls that fall due, each at its time."""
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.due <= end]:
            timer = min(due, key=lambda timer: timer.due)
            self.timers.remove(timer)
            self.now = max(self.now, timer.due)
            timer.call()
        self.now = end


class FakeTransport(asyncio.Transport):
    """Records what is written and what is asked of it.

    :param extra: what :meth:`get_extra_info` returns, by name.
    """

    def __init__(self, extra: Mapping[str, Any] | None = None) -> None:
        super().__init__(extra)
        self.written = b""
        self.unsent = 0
        """The size of the write buffer, as the test sets it."""
        self.is_closed = False
        self.is_aborted = False
        self.is_reading_paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed, "a closed transport was written to"
        self.written += data

    def write_eof(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        self.is_reading_paused = False


class FakeStarts:
    """Lets each stream be settled as soon as it has ended."""

    def turn_to_settle(self) -> asyncio.Future[None] | None:
        return None


class FakeClient:
    """A client's connection as an exchange knows it."""

    def __init__(self) -> None:
        self.transport = FakeTransport()
        self.task: asyncio.Task[Any] | None = None
        """What answers its requests, cancelled by :meth:`leave`."""
        self.is_gone = False
        self.has_stalled = False
        self.may_stay = True
        """Whether the proxy keeps the connection open for another request."""
        self.writing_paused = False
        self.pauses_always = False
        """Whether it stops reading after each write."""
        self.resumed = asyncio.Event()
        self.starts = FakeStarts()
        self.pause: Callable[[], None] | None = None
        self.resume: Callable[[], None] | None = None

    @property
    def connected(self) -> bool:
        return not self.is_gone

    def may_follow(self, message: RawRequestMessage) -> bool:
        return self.may_stay and can_stay_open(message)

    def write_now(self, data: bytes) -> None:
        if not self.is_gone:
            self.transport.write(data)
            if data and self.pauses_always:
                self.stop_reading()

    write = write_last = write_now

    async def deliver(self, pieces: deque[bytes]) -> None:
        while pieces:
            self.write_now(pieces.popleft())
            await self.drained()

    async def drained(self) -> None:
        self.resumed.clear()
        if self.writing_paused:
            await self.resumed.wait()

    def close(self) -> None:
        self.transport.close()

    def abort(self) -> None:
        self.transport.abort()

    def begin_stream(self, pause: Callable[[], None], resume: Callable[[], None], *, is_chunked: bool) -> None:
        self.pause, self.resume = pause, resume

    def end_stream(self) -> None:
        self.pause = self.resume = None

    def stop_reading(self, unsent: int = 0) -> None:
        self.transport.unsent = unsent
        self.writing_paused = True
        if self.pause is not None:
            self.pause()

    def read_on(self) -> None:
        self.transport.unsent = 0
        self.writing_paused = False
        if self.resume is not None:
            self.resume()
        self.resumed.set()

    def leave(self) -> None:
        """Close the connection, which cancels what answers its request."""
        self.is_gone = True
        if self.task is not None:
            self.task.cancel()


class FakeSink:
    """Records a response that a backend connection delivers, and checks that its parts come in order."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.end: str | None = None
        """``framed``, ``unframed`` or the value of an :class:`UpstreamFault`; None before the end."""
        self.why: str | None = None
        self.calls: list[Literal["head", "body", "end", "failed"]] = []

    def on_head(self, head: Any) -> None:
        assert self.calls == []
        self.calls.append("head")
        self.status, self.headers = head.status, head.headers

    def on_body(self, data: bytes) -> None:
        assert data
        assert "head" in self.calls
        assert self.end is None
        self.calls.append("body")
        self.body += data

    def on_end(self, *, is_framed: bool) -> None:
        assert self.end is None
        self.calls.append("end")
        self.end = "framed" if is_framed else "unframed"

    def on_failed(self, fault: UpstreamFault, message: str) -> None:
        assert self.end is None
        self.calls.append("failed")
        self.end = fault.value
        self.why = message
