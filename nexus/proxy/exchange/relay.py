"""Streams an answer to the client: events as they arrive, with back-pressure and deadlines."""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum
from time import monotonic
from typing import Final

from nexus.domain.model_load import ModelLoad
from nexus.error_codes import CODES, CODES_OF_FAULT, UpstreamFault
from nexus.proxy.client.connection import ClientConnection
from nexus.proxy.exchange.pieces import PIECE_BYTES, pieces_of
from nexus.proxy.exchange.response import TOO_LARGE, Response
from nexus.proxy.upstream.connection import UpstreamConnection
from nexus.translation.conversion import StreamConversion
from nexus.wire.streams.event_buffer import EventTooLargeError

LAST_CHUNK: Final = b"0\r\n\r\n"
PING_S: Final = 15.0
"""How long a translated stream may be silent while its backend works: some events say nothing in another dialect."""


class End(Enum):
    """How the backend's part of a stream ended."""

    COMPLETE = "complete"
    """Complete; an error that the backend reported itself is an end, too."""
    CUT = "cut"
    """Cut by an error event of Nexus; see :attr:`StreamRelay.code`."""


class StreamRelay:
    """Passes one stream on to the client, until ``done``, and then what the client has not taken yet.

    What the client does not take is kept here, in pieces, and meanwhile nothing more is read from the backend. The
    connection cuts off a client that takes nothing for too long.
    """

    __slots__ = (
        "_backlog",
        "_client",
        "_connection",
        "_deadline",
        "_feed",
        "_figures",
        "_first_content_by",
        "_handed_over",
        "_idle_s",
        "_is_opaque",
        "_is_paused",
        "_last_content_at",
        "_last_data_at",
        "_last_translated_at",
        "_loop",
        "_response",
        "_restore",
        "_scan",
        "_seen_blocks",
        "_timer",
        "_translation",
        "_turn_until",
        "_write_now",
        "bytes_out",
        "code",
        "done",
        "is_chunked",
    )

    def __init__(  # noqa: PLR0913 - both ends, and two deadlines
        self,
        client: ClientConnection,
        connection: UpstreamConnection,
        response: Response,
        *,
        is_chunked: bool,
        idle_s: float,
        first_content_by: float,
        turn_until: Callable[[float], float],
        figures: ModelLoad,
        deadline: float,
        restore: Callable[[bytes], bytes] | None,
        translation: StreamConversion | None = None,
    ) -> None:
        self._client = client
        self._connection = connection
        self._response = response
        self._scan = response.scan
        self._feed = response.scan.feed
        self._is_opaque = response.mode == "opaque"
        self._write_now = client.write_now
        self._is_paused = False
        """Whether the client takes no more for now."""
        self.is_chunked = is_chunked
        self._idle_s = idle_s
        self._first_content_by = first_content_by
        self._turn_until = turn_until
        self._figures = figures
        self._restore = restore if translation is None else translation.feed
        self._translation = translation
        self._deadline = deadline
        self._loop = response.loop
        self._last_data_at = self._last_translated_at = monotonic()
        self._last_content_at: float | None = None
        self._seen_blocks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._backlog: deque[bytes] = deque()
        """What is not written yet, because the client has not taken what was written before."""
        self._handed_over = asyncio.Event()
        """Set when the last of it was written."""
        self.done: asyncio.Future[End] = self._loop.create_future()
        self.code: str | None = None
        """The error code with which the stream was cut; None unless it was."""
        self.bytes_out = 0
        """Written to the client."""

    def start(self) -> None:
        """Take the stream over from its response."""
        self._client.begin_stream(self.pause, self.resume, is_chunked=self.is_chunked)
        self._is_paused = self._client.writing_paused
        self._response.hand_over(self)
        if not self.done.done():
            self._watch()
            # The response paused reading when it was ready.
            if not self._is_paused:
                self._connection.resume_reading()

    @property
    def message(self) -> str | None:
        """The message of the code; None unless the stream was cut."""
        return None if self.code is None else CODES[self.code].in_stream

    async def end(self) -> End:
        """Wait until the backend's part is over, and return how it ended.

        Losing the client's connection cancels this wait: an end that came before that counts all the same.
        """
        try:
            await self.done
            if (turn := self._client.starts.turn_to_settle()) is not None:
                await turn
        except asyncio.CancelledError:
            is_over = self.done.done() and not self.done.cancelled()
            if not is_over or (self._backlog and self.code is None):
                raise
        finally:
            self._response.last_content_at = self._last_content_at
        return self.done.result()

    async def taken(self) -> None:
        """Wait, after the end, until the client has taken everything; a client that leaves cancels the wait."""
        if self._client.connected:
            await self._handed_over.wait()
            if self.code is None:
                await self._client.drained()

    def stop(self) -> None:
        """Detach both ends; to be called exactly once, however the stream ended."""
        if self._is_paused:
            # Nothing was read from the backend because the client did not read: that is no silence of the backend.
            self._figures.alive_at = monotonic()
        self._client.end_stream()
        self._stop_watching()
        self._backlog.clear()

    # BodySink

    def on_body(self, data: bytes) -> None:
        if not self._is_opaque:
            try:
                data = self._feed(data)
            except EventTooLargeError:
                self._connection.abandon()
                self.on_failed(UpstreamFault.EVENT_TOO_LARGE, TOO_LARGE)
                return
        self.forward(data)

    def on_end(self, *, is_framed: bool) -> None:  # noqa: ARG002 - the events tell whether a stream is complete
        response = self._response
        if response.mode == "events":
            if not (self._scan.is_finished() or self._scan.has_error):
                self.cut("stream_truncated")
                return
            if closing := self._scan.closing():
                self.forward(closing)
            if self._translation is not None and self.code is None:
                self._pass_on(self._translation.end())
        self._end(End.COMPLETE)

    def on_failed(self, fault: UpstreamFault, _message: str) -> None:
        # A connection that breaks after the terminal event has lost nothing.
        if self._response.mode == "events" and self._scan.is_finished() and not self._scan.closing():
            self.on_end(is_framed=False)
        else:
            self.cut(CODES_OF_FAULT[fault].in_stream)

    # what the response calls

    def forward(self, data: bytes) -> None:
        """Pass *data* on, which the scan has seen."""
        # A chunk of length 0 would mark the end of the reply.
        if not data:
            return
        blocks = self._scan.data_blocks
        # A comment is no content, but proves that the backend is at work.
        self._last_data_at = now = monotonic()
        if blocks != self._seen_blocks or self._is_opaque:
            self._seen_blocks = blocks
            self._last_content_at = self._figures.alive_at = now
            if self._response.content_at is None and self._scan.has_content:
                self._response.note_content()
        if self._restore is not None:
            data = self._restore(data)
            if self._translation is not None and not self._may_go_on(self._translation, data):
                return
        size = len(data)
        if self._is_paused or size > PIECE_BYTES:
            self._backlog.extend(pieces_of(data))
            self._write_backlog()
        else:
            self.bytes_out += size
            self._write_now(b"%x\r\n%b\r\n" % (size, data) if self.is_chunked else data)

    def _may_go_on(self, translation: StreamConversion, data: bytes) -> bool:
        """Whether there is something to send; end the stream if the translation of an event has failed."""
        if translation.has_failed and self.code is None and not self._scan.has_error:
            self._pass_on(data)
            self.cut("upstream_error")
            return False
        if data:
            self._last_translated_at = self._last_data_at
        return bool(data)

    def _pass_on(self, data: bytes) -> None:
        if data:
            self._backlog.extend(pieces_of(data))
            self._write_backlog()

    # what the exchange calls

    def cut(self, code: str) -> None:
        """End the stream with an error event in the client's protocol, and so that it never looks complete."""
        if self.done.done():
            return
        self.code = code
        self._connection.abandon()
        if self._response.mode == "events":
            self.forward(self._scan.failure(code, self.message or ""))
        self._end(End.CUT)

    # what the client's connection calls

    def pause(self) -> None:
        """Stop reading from the backend: the client takes no more for now."""
        self._is_paused = True
        if not self.done.done():
            self._connection.pause_reading()

    def resume(self) -> None:
        self._is_paused = False
        self._write_backlog()
        if not (self._is_paused or self.done.done()):
            self._last_data_at = monotonic()
            self._connection.resume_reading()

    # what goes out

    def _write(self, data: bytes) -> None:
        self.bytes_out += len(data)
        self._write_now(b"%x\r\n%b\r\n" % (len(data), data) if self.is_chunked else data)

    def _write_backlog(self) -> None:
        backlog = self._backlog
        while backlog and not self._is_paused:
            self._write(backlog.popleft())
        if self.done.done() and not backlog and not self._handed_over.is_set():
            self._write_end()

    def _write_end(self) -> None:
        self._handed_over.set()
        if self.code is None:
            self._client.write_last(LAST_CHUNK if self.is_chunked else b"")
        else:
            # Without the last chunk, and closed: a client that knows no error events still sees a cut answer.
            self._client.close()

    # deadlines

    def _watch(self) -> None:
        now = monotonic()
        # While the client does not read, the backend is not to blame for its silence.
        idle_at = (now if self._is_paused else self._last_data_at) + self._idle_s
        if not (self._scan.has_content or self._response.mode == "opaque"):
            # Comments alone are no answer: without this limit, they would hold the client until the whole deadline.
            idle_at = self._first_content_by if now < self._first_content_by else self._turn_until(now)
        if now >= self._deadline:
            self.cut("deadline_exceeded")
        elif now >= idle_at:
            self.cut("stream_stalled")
        else:
            # Content may come meanwhile, and with it the shorter deadline.
            next_at = min(idle_at, now + self._idle_s, self._deadline)
            if self._translation is not None:
                next_at = min(next_at, self._pinged(self._translation, now))
            self._timer = self._loop.call_at(next_at, self._watch)

    def _pinged(self, translation: StreamConversion, now: float) -> float:
        """Send a ping if nothing was sent for long, and return when the next one is due."""
        if now >= self._last_translated_at + PING_S:
            self._last_translated_at = now
            # Each ping may have a number, so none is made in vain.
            if not (self._is_paused or self._backlog) and (ping := translation.ping()):
                self._write(ping)
        return self._last_translated_at + PING_S

    def _end(self, how: End) -> None:
        if not self.done.done():
            self.done.set_result(how)
            self._stop_watching()
            self._write_backlog()

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
