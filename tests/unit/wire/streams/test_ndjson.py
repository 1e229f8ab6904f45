"""JSON lines, whole and cut."""

import pytest

from nexus.wire.streams.event import Event
from nexus.wire.streams.event_buffer import MAX_EVENT_BYTES, EventTooLargeError
from nexus.wire.streams.ndjson import LineFraming


def test_only_whole_lines_are_returned():
    framing = LineFraming()

    blocks = [framing.feed(piece) for piece in (b'{"a":1}\n{"a"', b":2", b'}\r\n\n{"a":3}\n{')]

    assert blocks == [b'{"a":1}\n', b"", b'{"a":2}\r\n\n{"a":3}\n']
    assert framing.completed_rest() == b"{\n"


def test_blank_lines_are_no_events():
    assert LineFraming.events(b'\n{"a":1}\r\n\n') == [Event(b"", b'{"a":1}')]


def test_a_line_that_never_ends_is_refused():
    framing = LineFraming()

    for _ in range(MAX_EVENT_BYTES // 1024 - 1):
        framing.feed(b"x" * 1024)

    with pytest.raises(EventTooLargeError):
        framing.feed(b"x" * 2048)


def test_a_long_line_among_short_ones_is_refused():
    with pytest.raises(EventTooLargeError):
        LineFraming().feed(b"a\n" + b"x" * MAX_EVENT_BYTES + b"\nb\n")


def test_the_tail_holds_the_last_lines():
    block = b"".join(b"%d\n" % number for number in range(100))

    assert LineFraming.tail(block) == b"".join(b"%d\n" % number for number in range(92, 100))
