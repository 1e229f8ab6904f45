"""What watching a stream has in common in all protocols: framing, flags, the few events that must be remembered."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from nexus.domain.request import TokenUsage
from nexus.wire.responses.nature import error_in
from nexus.wire.streams.event import Event, Sense
from nexus.wire.streams.event_buffer import EventRoom
from nexus.wire.streams.summary import summary
from nexus.wire.token_estimates import BYTES_PER_TOKEN

LARGE_BLOCK_BYTES: Final = 16 * 1024
MAX_LONG_EVENTS: Final = 32
"""Events of a large block that are looked at one by one; with more of them, none is long."""
MAX_TOKENS_PER_EVENT: Final = 2
"""An answer that by its size has more is not made of one token per event."""
MAX_RECENT_BLOCKS: Final = 4
"""Blocks of events that are remembered: the answer's end, its usage and its marker can come apart."""


class Framing(Protocol):
    """How a stream is made of events."""

    room: EventRoom
    """What bounds the event that is not complete."""

    def feed(self, data: bytes) -> bytes: ...
    def completed_rest(self) -> bytes: ...
    def lines_of(self, event: Event) -> int: ...
    def size_of(self, event: Event) -> int: ...
    def release(self) -> None: ...
    def tail(self, block: bytes) -> bytes: ...
    def has_data(self, block: bytes) -> bool: ...
    def events(self, block: bytes) -> list[Event]: ...
    def each(self, block: bytes) -> Iterator[Event]: ...
    def event_at(self, block: bytes, at: int) -> bytes: ...
    def framed(self, event: Event) -> bytes: ...


class EventScan(ABC):
    """A :class:`nexus.wire.protocol.StreamScan`; a protocol says what its events mean.

    Most blocks pass with a few searches for marks, which can stand in JSON only as a member's name or a whole value:
    in text, their quotes are escaped. Only where a mark is found, and before the first content, events are decoded.
    """

    __slots__ = (
        "_bytes",
        "_feed",
        "_first_error",
        "_framing",
        "_has_data",
        "_has_event",
        "_lifecycle_bytes",
        "_lifecycle_events",
        "_lines",
        "_recent",
        "_usage_block",
        "data_blocks",
        "has_content",
        "has_error",
    )

    error_mark: bytes
    """Stands in every event that is an error."""
    usage_mark: bytes
    """Stands in every event that tells a usage."""
    second_usage_mark: bytes = b""
    """Stands in one of the last events, which tells what may serve as a usage; empty: there is none."""

    def __init__(self, framing: Framing) -> None:
        self.has_content = False
        self.has_error = False
        self.data_blocks = 0
        self._framing = framing
        self._has_event = False
        self._feed = framing.feed
        self._has_data = framing.has_data
        self._recent: deque[bytes] = deque(maxlen=MAX_RECENT_BLOCKS)
        self._usage_block = b""
        self._bytes = 0
        self._lines = 0
        self._lifecycle_events = 0
        self._lifecycle_bytes = 0
        self._first_error: Event | None = None

    def feed(self, data: bytes) -> bytes:
        block = self._feed(data)
        if not block or not self._has_data(block):
            return block
        self.data_blocks += 1
        seen = block if len(block) < LARGE_BLOCK_BYTES else self._shortened(block)
        self._recent.append(seen if len(seen) < LARGE_BLOCK_BYTES else self._framing.tail(seen))
        if not self.has_content:
            self._look_for_content(seen)
        if self.error_mark in seen and not self.has_error:
            self.has_error = any(self.sense(event) is Sense.ERROR for event in self._framing.events(seen))
        if self.usage_mark in seen:
            self._usage_block = seen
        self._bytes += len(block)
        self._lines += block.count(b"\n")
        return block

    def bound(self, room: EventRoom) -> None:
        self._framing.room = room

    def listen(self, tell: Callable[[str], None]) -> None:
        text_in = self.text_in

        def tell_text(event: Event) -> None:
            if text := text_in(event.content):
                tell(text)

        self.show(tell_text)

    def show(self, see: Callable[[Event], None]) -> None:
        feed, each = self._feed, self._framing.each

        def feed_and_show(data: bytes) -> bytes:
            block = feed(data)
            for event in each(block):
                see(event)
            return block

        # It replaces the plain one, so that a stream of which nothing is read costs nothing.
        self._feed = feed_and_show

    def is_finished(self) -> bool:
        return self.is_end(self._last_events()) or self.is_end(self._all_events())

    def closing(self) -> bytes:
        # Some servers end without the line ends that would complete their last event.
        events = self._all_events()
        if self.is_end(events):
            return self._framing.completed_rest() + self.epilogue(events)
        events = self._last_events()
        return self.epilogue(events) if self.is_end(events) else b""

    def first_error(self) -> tuple[int, bytes] | None:
        return None if self._first_error is None else self.reply_of(self._first_error)

    def error_in_rest(self) -> tuple[int, bytes] | None:
        if self._has_event:
            return None
        rest = self._framing.events(self._framing.completed_rest())
        return self.reply_of(rest[0]) if rest and self._is_error(rest[0], self.sense(rest[0])) else None

    def release(self) -> None:
        self._framing.release()

    def usage(self) -> TokenUsage | None:
        block, mark = self._usage_block, self.usage_mark
        if not block and self.second_usage_mark:
            # Only the end of an answer has it, so no other block was searched for it.
            block, mark = b"".join(self._recent), self.second_usage_mark
        at = block.rfind(mark)
        if at < 0:
            return None
        # Of a block of many events, the one with the last mark is all that is read.
        marked = self._framing.events(self._framing.event_at(block, at))
        return self.usage_in(marked[-1]) if marked else None

    def estimated_tokens(self) -> int:
        size_of, recent = self._framing.size_of, self._last_events()
        # The last events end the answer, as the first ones begin it: neither brings text.
        last = [(size_of(event), len(self.text_in(event.content).encode())) for event in recent]
        ends = [size for size, text in last if not text]
        bringing = len(last) - len(ends)
        events = self._lines // max((self._framing.lines_of(event) for event in recent), default=1)
        count = max(events - self._lifecycle_events - len(ends), bringing)
        if not bringing:
            return count
        around = sum(size - text for size, text in last if text) // bringing
        by_size = (self._bytes - self._lifecycle_bytes - sum(ends) - count * around) // BYTES_PER_TOKEN
        # Engines send each token by itself; what is much longer than that comes from where several go together.
        return by_size if by_size > MAX_TOKENS_PER_EVENT * count else count

    @staticmethod
    @abstractmethod
    def text_in(content: bytes) -> str:
        """Return what the model says in one event; empty when it says nothing there."""

    @abstractmethod
    def sense(self, event: Event) -> Sense:
        """Say what *event* is for; it may hold any bytes, and being asked twice changes nothing."""

    def note_beginning(self, event: Event) -> None:  # noqa: B027 - nothing is what most protocols do
        """Learn what an event tells that comes before the first content; most protocols tell nothing there."""

    @abstractmethod
    def is_end(self, events: list[Event]) -> bool:
        """Whether an answer whose last events are *events* is finished."""

    def epilogue(self, _events: list[Event]) -> bytes:
        """Return what a finished answer that ends with these events still lacks."""
        return b""

    @abstractmethod
    def usage_in(self, event: Event) -> TokenUsage | None:
        """Read the usage that *event* tells, None when it cannot be true."""

    @abstractmethod
    def reply_of(self, error: Event) -> tuple[int, bytes]:
        """Return the status and the body of the reply that *error* should have been."""

    @abstractmethod
    def failure(self, code: str, message: str) -> bytes: ...

    @staticmethod
    def _is_error(event: Event, sense: Sense) -> bool:
        """Whether the first event is an error, be it in the shape of another API."""
        return sense is Sense.ERROR or error_in(event.content) is not None

    def _look_for_content(self, block: bytes) -> None:
        for event in self._framing.each(block):
            sense = self.sense(event)
            if not self._has_event and self._is_error(event, sense):
                self._first_error = event
                sense = Sense.ERROR
            self._has_event = True
            if sense is Sense.CONTENT:
                self.has_content = True
                return
            if sense is Sense.LIFECYCLE:
                self._lifecycle_events += 1
                self._lifecycle_bytes += self._framing.size_of(event)
                self.note_beginning(event)

    def _shortened(self, block: bytes) -> bytes:
        """Return a long *block* without the pictures and long texts in it; one of many short events as it is."""
        framing = self._framing
        if len(framing.tail(block)) < LARGE_BLOCK_BYTES:
            return block
        events = framing.events(block)
        if len(events) > MAX_LONG_EVENTS:
            return block
        return b"".join(framing.framed(summary(event)) for event in events)

    def _last_events(self) -> list[Event]:
        recent = b"".join(self._recent)
        tail = self._framing.tail(recent)
        events = self._framing.events(tail)
        if len(events) < MAX_RECENT_BLOCKS and len(tail) < len(recent):
            # Comments and pings may follow what matters.
            events = self._framing.events(recent)
        return events[-MAX_RECENT_BLOCKS:]

    def _all_events(self) -> list[Event]:
        rest = self._framing.events(self._framing.completed_rest())
        return [*self._last_events(), *rest][-MAX_RECENT_BLOCKS:]
