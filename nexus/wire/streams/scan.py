"""Watches a stream: the part that all protocols share."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from nexus.domain.request import TokenUsage
from nexus.wire.responses.nature import error_in
from nexus.wire.streams.event import Event, Purpose
from nexus.wire.streams.event_buffer import EventRoom
from nexus.wire.streams.summary import summary
from nexus.wire.token_estimates import BYTES_PER_TOKEN

READ_AT_BYTES: Final = 2048
"""So much is searched for marks at once, about ten events: a search for each event would cost more than the rest."""
LARGE_BLOCK_BYTES: Final = 16 * 1024
MAX_LONG_EVENTS: Final = 32
"""Events of a large block that are shortened one by one; if there are more, none of them is long."""
MAX_TOKENS_PER_EVENT: Final = 2
"""If an answer has more by its size, its backend sends several tokens per event."""
MAX_RECENT_BLOCKS: Final = 4
"""Blocks that are remembered, as the end of an answer, its usage and the end mark can come separately."""


class Framing(Protocol):
    """The framing of a stream."""

    room: EventRoom
    """Bounds the incomplete event."""
    rest: bytearray
    """The incomplete event."""
    end: bytes
    """If :attr:`rest` is empty, bytes that end with this are whole events."""
    data_starts_with: int
    """A block that begins with this byte has data."""

    def feed(self, data: bytes) -> bytes: ...
    def completed_rest(self) -> bytes: ...
    def count(self, block: bytes) -> int: ...
    def size_of(self, event: Event) -> int: ...
    def release(self) -> None: ...
    def tail(self, block: bytes) -> bytes: ...
    def has_data(self, block: bytes) -> bool: ...
    def events(self, block: bytes) -> list[Event]: ...
    def each(self, block: bytes) -> Iterator[Event]: ...
    def event_at(self, block: bytes, at: int) -> bytes: ...
    def framed(self, event: Event) -> bytes: ...


class StreamScan(ABC):
    """Watches one streamed answer, without changing a byte of it; a subclass defines the meaning of events.

    It takes the body in pieces of any size and returns whole events, so that the client never gets half of one. This is
    the hot path: after the first content, a call for a block of events only remembers it.

    Some events later, a few searches look for marks, which occur in JSON only as a member's name or a whole value: in
    text, their quotes are escaped. Events are decoded only before the first content, and where a mark is found.
    """

    __slots__ = (
        "_bytes",
        "_data_starts_with",
        "_end",
        "_end_at",
        "_events",
        "_first_error",
        "_framing",
        "_has_data",
        "_has_error",
        "_has_event",
        "_lifecycle_bytes",
        "_lifecycle_events",
        "_recent",
        "_rest",
        "_see",
        "_unread",
        "_unread_bytes",
        "_usage_block",
        "data_blocks",
        "has_content",
    )

    error_mark: bytes
    """Occurs in every error event."""
    usage_mark: bytes
    """Occurs in every event with a usage."""
    second_usage_mark: bytes = b""
    """Occurs in one of the last events, which can serve as a usage; empty: there is none."""

    def __init__(self, framing: Framing) -> None:
        self.has_content = False
        """Whether an event returned so far has content: not a comment, a ping, a role or another lifecycle event."""
        self.data_blocks = 0
        """Incremented by each call that returns an event other than a comment, for the idle deadline."""
        self._framing = framing
        self._has_event = False
        self._has_error = False
        self._see: Callable[[Event], None] | None = None
        self._rest = framing.rest
        self._end = framing.end
        self._end_at = -len(framing.end)
        self._has_data = framing.has_data
        self._data_starts_with = framing.data_starts_with
        self._unread: list[bytes] = []
        """What :meth:`_read` has not read yet."""
        self._unread_bytes = 0
        self._recent: deque[bytes] = deque(maxlen=MAX_RECENT_BLOCKS)
        self._usage_block = b""
        self._bytes = 0
        self._events = 0
        self._lifecycle_events = 0
        self._lifecycle_bytes = 0
        self._first_error: Event | None = None

    def feed(self, data: bytes) -> bytes:
        """Return the events that are complete now, byte for byte; the rest is buffered.

        :raises EventTooLargeError: an event is longer than its room allows.
        """
        # Most reads bring one or more whole events.
        if data[self._end_at :] == self._end and not self._rest and len(data) <= self._framing.room.max_event_bytes:
            block = data
        else:
            block = self._framing.feed(data)
        if block and (block[0] == self._data_starts_with or self._has_data(block)):
            self.data_blocks += 1
            self._unread.append(block)
            self._unread_bytes += len(block)
            if self._see is not None:
                for event in self._framing.each(block):
                    self._see(event)
            if self._unread_bytes >= READ_AT_BYTES or not self.has_content:
                self._read()
        return block

    @property
    def has_error(self) -> bool:
        """Whether an event returned so far is an error."""
        self._read()
        return self._has_error

    @property
    def framing(self) -> Framing:
        """Splits the events that :meth:`feed` returns."""
        return self._framing

    def bound(self, room: EventRoom) -> None:
        """Let *room* bound the incomplete event, instead of the default for a single stream."""
        self._framing.room = room

    def listen(self, tell: Callable[[str], None]) -> None:
        """Call *tell* with the text of each event that :meth:`feed` returns.

        Must be called before the first :meth:`feed`. Every event is then decoded, so use it only if needed.
        """
        text_in = self.text_in

        def tell_text(event: Event) -> None:
            if text := text_in(event.content):
                tell(text)

        self.show(tell_text)

    def show(self, see: Callable[[Event], None]) -> None:
        """Call *see* with each event that :meth:`feed` returns; under the same conditions as :meth:`listen`."""
        self._see = see

    def is_finished(self) -> bool:
        """Whether the events returned so far end a complete answer."""
        return self.is_end(self._last_events()) or self.is_end(self._all_events())

    def closing(self) -> bytes:
        """Return what a complete answer lacks at the end of its stream, such as ``data: [DONE]``; usually empty."""
        # Some servers omit the line ends of their last event.
        events = self._all_events()
        if self.is_end(events):
            return self._framing.completed_rest() + self.epilogue(events)
        events = self._last_events()
        return self.epilogue(events) if self.is_end(events) else b""

    def first_error(self) -> tuple[int, bytes] | None:
        """Return HTTP status and body of the error that was the first event; None when it was no error."""
        return None if self._first_error is None else self.reply_of(self._first_error)

    def error_in_rest(self) -> tuple[int, bytes] | None:
        """Return the same at the end of the stream, if its only event is an error without its final line ends."""
        if self._has_event:
            return None
        rest = self._framing.events(self._framing.completed_rest())
        return self.reply_of(rest[0]) if rest and self._is_error(rest[0], self.purpose(rest[0])) else None

    def release(self) -> None:
        """Drop the incomplete event: nothing more will be fed."""
        self._framing.release()

    def usage(self) -> TokenUsage | None:
        """Return the last reported usage, never a sum; None when there was none."""
        marked = self.last_marked()
        return None if marked is None else self.usage_in(marked)

    def last_marked(self) -> Event | None:
        """Return the last event with the mark of a usage; None when there was none."""
        self._read()
        block, mark = self._usage_block, self.usage_mark
        if not block and self.second_usage_mark:
            # Only the end of an answer has it, so earlier blocks were not searched.
            block, mark = b"".join(self._recent), self.second_usage_mark
        at = block.rfind(mark)
        if at < 0:
            return None
        # Of a block of many events, only the one with the last mark is decoded.
        marked = self._framing.events(self._framing.event_at(block, at))
        return marked[-1] if marked else None

    def estimated_tokens(self) -> int:
        """Estimate the tokens of the answer so far, by its events and their size."""
        self._read()
        size_of, recent = self._framing.size_of, self._last_events()
        # The last events end the answer, as the first ones begin it: neither has text.
        last = [(size_of(event), len(self.text_in(event.content).encode())) for event in recent]
        ends = [size for size, text in last if not text]
        bringing = len(last) - len(ends)
        count = max(self._events - self._lifecycle_events - len(ends), bringing)
        if not bringing:
            return count
        around = sum(size - text for size, text in last if text) // bringing
        by_size = (self._bytes - self._lifecycle_bytes - sum(ends) - count * around) // BYTES_PER_TOKEN
        # Engines usually send one event per token; much longer events have several.
        return by_size if by_size > MAX_TOKENS_PER_EVENT * count else count

    @staticmethod
    @abstractmethod
    def text_in(content: bytes) -> str:
        """Return the model's text in one event, which may be empty."""

    @abstractmethod
    def purpose(self, event: Event) -> Purpose:
        """Return the purpose of *event*, which may hold any bytes; without side effects."""

    def read_lifecycle(self, event: Event) -> None:  # noqa: B027 - most protocols need nothing
        """Read what a lifecycle event before the first content reports."""

    @abstractmethod
    def is_end(self, events: list[Event]) -> bool:
        """Whether *events*, the last ones of an answer, complete it."""

    def epilogue(self, _events: list[Event]) -> bytes:
        """Return what a complete answer with these last events lacks."""
        return b""

    @abstractmethod
    def usage_in(self, event: Event) -> TokenUsage | None:
        """Return the usage in *event*, None if it is implausible."""

    @abstractmethod
    def reply_of(self, error: Event) -> tuple[int, bytes]:
        """Return the status and the body that *error* should have been sent with."""

    @abstractmethod
    def failure(self, code: str, message: str) -> bytes:
        """Return the error event that ends this answer in place of what the backend did not send."""

    @staticmethod
    def _is_error(event: Event, purpose: Purpose) -> bool:
        """Whether the first event is an error, in the format of any API."""
        return purpose is Purpose.ERROR or error_in(event.content) is not None

    def _read(self) -> None:
        """Read what :meth:`feed` has returned since the last call."""
        if not self._unread:
            return
        block = b"".join(self._unread)
        self._unread.clear()
        self._unread_bytes = 0
        if len(block) < LARGE_BLOCK_BYTES:
            seen = recent = block
        else:
            seen = self._shortened(block)
            recent = seen if len(seen) < LARGE_BLOCK_BYTES else self._framing.tail(seen)
        self._recent.append(recent)
        if not self.has_content:
            self._look_for_content(seen)
        # Searched with find, as ``mark in seen`` first raises and drops an exception: CPython asks for a number.
        if seen.find(self.error_mark) >= 0 and not self._has_error:
            self._has_error = any(self.purpose(event) is Purpose.ERROR for event in self._framing.events(seen))
        if seen.find(self.usage_mark) >= 0:
            self._usage_block = seen
        self._bytes += len(block)
        self._events += self._framing.count(block)

    def _look_for_content(self, block: bytes) -> None:
        for event in self._framing.each(block):
            purpose = self.purpose(event)
            if not self._has_event and self._is_error(event, purpose):
                self._first_error = event
                purpose = Purpose.ERROR
            self._has_event = True
            if purpose is Purpose.CONTENT:
                self.has_content = True
                return
            if purpose is Purpose.LIFECYCLE:
                self._lifecycle_events += 1
                self._lifecycle_bytes += self._framing.size_of(event)
                self.read_lifecycle(event)

    def _shortened(self, block: bytes) -> bytes:
        """Return a long *block* without its images and long texts; one of many short events unchanged."""
        framing = self._framing
        if len(framing.tail(block)) < LARGE_BLOCK_BYTES:
            return block
        events = framing.events(block)
        if len(events) > MAX_LONG_EVENTS:
            return block
        return b"".join(framing.framed(summary(event)) for event in events)

    def _last_events(self) -> list[Event]:
        self._read()
        recent = b"".join(self._recent)
        tail = self._framing.tail(recent)
        events = self._framing.events(tail)
        if len(events) < MAX_RECENT_BLOCKS and len(tail) < len(recent):
            # Comments and pings may follow the last relevant event.
            events = self._framing.events(recent)
        return events[-MAX_RECENT_BLOCKS:]

    def _all_events(self) -> list[Event]:
        rest = self._framing.events(self._framing.completed_rest())
        return [*self._last_events(), *rest][-MAX_RECENT_BLOCKS:]
