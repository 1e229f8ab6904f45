"""Server-sent events, as backends write them and as the specification allows."""

import pytest

from nexus.wire.streams.event import Event
from nexus.wire.streams.event_buffer import MAX_EVENT_BYTES, EventTooLargeError
from nexus.wire.streams.sse import SSEFraming


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n", b"\n\r", b"\r\r\n"])
def test_an_event_is_returned_when_it_ends(end):
    framing = SSEFraming()

    assert (framing.feed(b"data: a"), framing.feed(end), framing.feed(b"data: b")) == (b"", b"data: a" + end, b"")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_one_line_end_ends_no_event(end):
    framing = SSEFraming()

    assert b"".join(framing.feed(bytes([byte])) for byte in b"data: a" + end + b"data: b") == b""


def test_a_cr_ends_an_event_though_its_lf_may_follow():
    framing = SSEFraming()

    blocks = [framing.feed(b"data: a\r\n\r"), framing.feed(b"\n"), framing.feed(b"data: b\r\n\r\n")]

    assert blocks == [b"data: a\r\n\r", b"\n", b"data: b\r\n\r\n"]


def test_only_whole_events_of_a_cut_stream_are_returned():
    framing = SSEFraming()

    assert framing.feed(b'data: {"a":1}\n\ndata: {"a":') == b'data: {"a":1}\n\n'
    assert framing.completed_rest() == b'data: {"a":\n\n'


@pytest.mark.parametrize(
    ("block", "events"),
    [
        (b"data: a\n\n", [Event(b"", b"a")]),
        (b"data:a\n\n", [Event(b"", b"a")]),
        (b"data:  a\n\n", [Event(b"", b" a")]),
        (b"data\n\n", [Event(b"", b"")]),
        (b"data: a\ndata: b\n\n", [Event(b"", b"a\nb")]),
        (b"data: a\r\ndata: b\rdata: c\n\n", [Event(b"", b"a\nb\nc")]),
        (b"event: e\nid: 1\nretry: 5\ndata: a\n\n", [Event(b"e", b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Event(b"", b"a")]),
        (b": comment\n\n:\n\n", []),
        (b"event: e\n\n", []),
        (b"database: a\n\n", []),
        (b"data: \x00\xff\n\n", [Event(b"", b"\x00\xff")]),
        (b"data: a\n\n\n\ndata: b\n\n", [Event(b"", b"a"), Event(b"", b"b")]),
    ],
)
def test_events_are_read_as_specified(block, events):
    assert SSEFraming.events(block) == events


def test_an_event_that_never_ends_is_refused():
    framing = SSEFraming()
    framing.feed(b"data: ")

    for _ in range(MAX_EVENT_BYTES // 1024 - 1):
        framing.feed(b"x" * 1024)

    with pytest.raises(EventTooLargeError):
        framing.feed(b"x" * 2048)


def test_many_short_events_at_once_are_not_one_long_one():
    block = b"data: x\n\n" * 200_000

    assert SSEFraming().feed(block) == block


def test_a_long_event_among_short_ones_is_refused():
    long = b"data: " + b"x" * MAX_EVENT_BYTES + b"\n\n"

    with pytest.raises(EventTooLargeError):
        SSEFraming().feed(b"data: a\n\n" + long + b"data: b\n\n")


def test_the_tail_holds_the_last_events():
    block = b"".join(b"data: %d\n\n" % number for number in range(100))

    assert SSEFraming.events(SSEFraming.tail(block)) == SSEFraming.events(block)[-8:]
    assert SSEFraming.tail(b"data: a\n\n") == b"data: a\n\n"
