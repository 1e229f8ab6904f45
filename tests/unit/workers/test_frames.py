"""Messages between processes survive any cut of the stream."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.workers import frames
from nexus.workers.frames import Frame, FrameReader, FrameTooLong, encode

PAYLOADS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
MESSAGES = st.tuples(
    st.sampled_from(("message", "question", "answer", "failure")), st.integers(0, 2**53), st.text(), PAYLOADS
)


@given(st.lists(MESSAGES, max_size=6), st.data())
def test_messages_do_not_depend_on_how_the_bytes_are_cut(messages, data):
    stream = b"".join(encode(*message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    reader = FrameReader()

    found = [
        frame
        for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for frame in reader.feed(stream[begin:end])
    ]

    assert [
        (frame.kind, frame.number, frame.topic, msgspec.msgpack.decode(frame.payload)) for frame in found
    ] == messages


def test_a_message_that_is_too_long_is_refused_by_both_sides(monkeypatch):
    long = encode("message", 0, "rows", b"x" * 2000)
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 1000)

    with pytest.raises(FrameTooLong, match="'rows'"):
        encode("message", 0, "rows", b"x" * 2000)
    with pytest.raises(FrameTooLong, match="announces"):
        FrameReader().feed(long[:4])


def test_bytes_that_are_no_message_are_refused():
    with pytest.raises(msgspec.DecodeError):
        FrameReader().feed(b"\0\0\0\1\x01")


def test_a_payload_outlives_the_bytes_that_arrive_after_it():
    reader = FrameReader()
    (first,) = reader.feed(encode("message", 0, "a", "kept"))

    reader.feed(encode("message", 0, "b", "x" * 5000))

    assert first == Frame("message", 0, "a", msgspec.Raw(msgspec.msgpack.encode("kept")))
