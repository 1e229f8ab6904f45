"""The streaming part of an exchange: events go to the client as they come, with back-pressure and deadlines."""

import asyncio
from collections.abc import Callable
from enum import Enum
from time import monotonic
from typing import Final, Protocol

from nexus.errors import UpstreamFault
from nexus.proxy.answer import Answer
from nexus.proxy.answer_head import Mode
from nexus.proxy.upstream import UpstreamConnection

_FAULT_CODES: Final = {
    UpstreamFault.TRUNCATED: "stream_truncated",
    UpstreamFault.RESET: "stream_truncated",
    UpstreamFault.PROTOCOL: "upstream_error",
    UpstreamFault.EVENT_TOO_LARGE: "event_too_large",
}
MESSAGES: Final = {
    "stream_truncated": "the backend ended the stream before the answer was complete",
    "stream_stalled": "the backend sent nothing more for too long",
    "event_too_large": "the backend sent an event that is longer than the proxy's limits",
    "upstream_error": "the backend broke the stream",
    "deadline_exceeded": "the answer took longer than it may",
    "server_shutdown": "the proxy is shutting down",
}
"""What a client is told with each code that ends an answer which has begun."""
LAST_CHUNK: Final = b"0\r\n\r\n"


class Client(Protocol):
    """The connection to the client, as far as a relay needs it."""

    @property
    def writing_paused(self) -> bool: ...

    @property
    def unsent(self) -> int: ...

    def write_now(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def attach_relay(self, relay: "StreamRelay | None") -> None: ...


class End(Enum):
    """How a relay ended."""

    COMPLETE = "complete"
    """As the backend meant it, an error that it reported itself included."""
    CUT = "cut"
    """With an error event of ours; see :attr:`StreamRelay.code`."""
    STALLED_CLIENT = "stalled_client"


class StreamRelay:
    """Passes one begun answer on to the client, until ``done``."""

    __slots__ = (
        "_answer",
        "_client",
        "_connection",
        "_deadline",
        "_first_content_by",
        "_idle_s",
        "_last_data_at",
        "_loop",
        "_restore",
        "_scan",
        "_seen_blocks",
        "_stall_s",
        "_stall_timer",
        "_timer",
        "_turn_until",
        "bytes_out",
        "code",
        "done",
        "is_chunked",
    )

    def __init__(  # noqa: PLR0913 - both ends, and three deadlines
        self,
        client: Client,
        connection: UpstreamConnection,
        answer: Answer,
        *,
        is_chunked: bool,
        idle_s: float,
        first_content_by: float,
        turn_until: Callable[[float], float],
        stall_s: float,
        deadline: float,
        restore: Callable[[bytes], bytes] | None,
    ) -> None:
        self._client = client
        self._connection = connection
        self._answer = answer
        self._scan = answer.scan
        self.is_chunked = is_chunked
        self._idle_s = idle_s
        self._first_content_by = first_content_by
        self._turn_until = turn_until
        self._restore = restore
        self._stall_s = stall_s
        self._deadline = deadline
        self._loop = answer.loop
        self._last_data_at = monotonic()
        self._seen_blocks = 0
        self._stall_timer: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.done: asyncio.Future[End] = self._loop.create_future()
        self.code: str | None = None
        """The in-stream error code, once it has been cut."""
        self.bytes_out = 0

    def start(self) -> None:
        """Take the answer over."""
        self._client.attach_relay(self)
        self._answer.attach(self)
        if not self.done.done():
            self._watch()
            if self._client.writing_paused:
                self.pause()

    async def end(self) -> End:
        """Wait for the end, and return how it came.

        Closing the client's connection cancels whoever waits here: then what closed it counts, not what followed.
        """
        try:
            return await self.done
        except asyncio.CancelledError:
            if self.done.cancelled() or not self.done.done():
                raise
            return self.done.result()

    def stop(self) -> None:
        """Let go of both ends; to be called exactly once, however it ended."""
        self._client.attach_relay(None)
        # They know each other: without this, only the collector would free them, and what they hold.
        self._answer.detach()
        for timer in (self._timer, self._stall_timer):
            if timer is not None:
                timer.cancel()

    # what the answer says

    def forward(self, data: bytes) -> None:
        # No data would be written as a chunk without length: the mark of a finished answer.
        if self.done.done() or not data:
            return
        answer = self._answer
        blocks = self._scan.data_blocks
        # A comment is no part of the answer, but proves that the backend is at work.
        self._last_data_at = now = monotonic()
        if blocks != self._seen_blocks or answer.mode is Mode.OPAQUE:
            self._seen_blocks = blocks
            answer.last_content_at = now
        if self._restore is not None:
            data = self._restore(data)
        self.bytes_out += len(data)
        self._client.write_now(b"%x\r\n%b\r\n" % (len(data), data) if self.is_chunked else data)

    def finish(self) -> None:
        answer = self._answer
        if answer.mode is Mode.EVENTS:
            if not (self._scan.is_finished() or self._scan.has_error):
                self.cut("stream_truncated")
                return
            if closing := self._scan.closing():
                self.forward(closing)
        if self.is_chunked:
            self._client.write_now(LAST_CHUNK)
        self._end(End.COMPLETE)

    def break_off(self, fault: UpstreamFault, _message: str) -> None:
        # What a backend breaks after its terminal event is not missed by anybody.
        if self._answer.mode is Mode.EVENTS and self._scan.is_finished() and not self._scan.closing():
            self.finish()
        else:
            self.cut(_FAULT_CODES.get(fault, "upstream_error"))

    # what the exchange says

    def cut(self, code: str) -> None:
        """End the answer with an error event in the client's protocol, and in a way that never looks finished."""
        if self.done.done():
            return
        self.code = code
        self._connection.abandon()
        if self._answer.mode is Mode.EVENTS:
            self.forward(self._scan.failure(code, MESSAGES[code]))
        # Without the last chunk, and closed: a client that knows no error events still sees a cut answer.
        self._client.close()
        if self._client.unsent:
            # It stays open until the client has taken all that was written, which may be never.
            self._loop.call_later(self._stall_s, self._client.abort)
        self._end(End.CUT)

    # what the client's connection says

    def pause(self) -> None:
        """The client does not take any more for now."""
        self._connection.pause_reading()
        if self._stall_timer is None:
            self._stall_timer = self._loop.call_later(self._stall_s, self._check_stall, self._client.unsent)

    def resume(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        self._last_data_at = monotonic()
        self._connection.resume_reading()

    def _check_stall(self, unsent_before: int) -> None:
        unsent = self._client.unsent
        if unsent < unsent_before:
            self._stall_timer = self._loop.call_later(self._stall_s, self._check_stall, unsent)
            return
        self._stall_timer = None
        self._connection.abandon()
        self._client.abort()
        self._end(End.STALLED_CLIENT)

    def _watch(self) -> None:
        now = monotonic()
        # While the client does not read, the backend is not to blame for its silence.
        idle_at = (now if self._client.writing_paused else self._last_data_at) + self._idle_s
        if not (self._scan.has_content or self._answer.mode is Mode.OPAQUE):
            # Comments alone are no answer: without this limit, they would hold the client until the whole deadline.
            idle_at = self._first_content_by if now < self._first_content_by else self._turn_until(now)
        if now >= self._deadline:
            self.cut("deadline_exceeded")
        elif now >= idle_at:
            self.cut("stream_stalled")
        else:
            # Content may come meanwhile, and with it the shorter deadline.
            self._timer = self._loop.call_at(min(idle_at, now + self._idle_s, self._deadline), self._watch)

    def _end(self, how: End) -> None:
        if not self.done.done():
            self.done.set_result(how)
