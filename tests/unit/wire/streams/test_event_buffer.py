"""Incomplete events take room, in one stream and in all, and give it back."""

import json

import pytest

from nexus.wire.protocols import ENDPOINTS, PROTOCOLS
from nexus.wire.streams.event import Event
from nexus.wire.streams.event_buffer import UNCOUNTED_BYTES, EventRoom, EventTooLargeError
from nexus.wire.streams.scan import LARGE_BLOCK_BYTES
from nexus.wire.streams.summary import MAX_TEXT, summary

PATHS = ["/v1/images/generations", "/api/chat"]
PICTURE = "A" * 300_000


@pytest.fixture
def room():
    return EventRoom(max_event_bytes=1_000_000, max_buffered_bytes=400_000)


@pytest.fixture
def opened(room):
    def opened(path):
        scan = PROTOCOLS[ENDPOINTS[path].protocol].open_stream(ENDPOINTS[path])
        scan.bound(room)
        return scan

    return opened


def event(path, **members):
    content = json.dumps(members).encode()
    return content + b"\n" if path == "/api/chat" else b"data: %b\n\n" % content


@pytest.mark.parametrize("path", PATHS)
def test_an_event_takes_room_until_it_is_complete(opened, room, path):
    scan = opened(path)
    long = event(path, type="image_generation.completed", done=True, b64_json=PICTURE)

    assert scan.feed(long[:200_000]) == b""
    taken = room.used_bytes
    assert scan.feed(long[200_000:]) == long
    assert (taken, room.used_bytes) == (200_000 - UNCOUNTED_BYTES, 0)


@pytest.mark.parametrize("path", PATHS)
def test_a_released_buffer_gives_its_room_back(opened, room, path):
    scan = opened(path)
    scan.feed(event(path, b64_json=PICTURE)[:-5])

    scan.release()

    assert room.used_bytes == 0


@pytest.mark.parametrize("path", PATHS)
def test_all_streams_share_the_room(opened, room, path):
    part = event(path, b64_json=PICTURE)[:-5]
    first, second = opened(path), opened(path)
    first.feed(part)

    with pytest.raises(EventTooLargeError):
        second.feed(part)
    second.release()

    assert room.used_bytes == len(part) - UNCOUNTED_BYTES


@pytest.mark.parametrize("path", PATHS)
def test_a_short_incomplete_event_takes_no_room(opened, room, path):
    scan = opened(path)

    scan.feed(event(path, b64_json=PICTURE[: UNCOUNTED_BYTES - 100])[:-5])

    assert room.used_bytes == 0


@pytest.mark.parametrize("path", PATHS)
def test_a_long_event_is_remembered_by_its_summary(opened, path):
    scan = opened(path)
    usage = {"usage": {"input_tokens": 3, "output_tokens": 4}, "prompt_eval_count": 3, "eval_count": 4}

    scan.feed(event(path, type="image_generation.completed", b64_json=PICTURE, done=True, **usage))

    assert (scan.has_content, scan.is_finished()) == (True, True)
    assert scan.usage().prompt_tokens == 3
    assert sum(map(len, scan._recent)) + len(scan._usage_block) < LARGE_BLOCK_BYTES


def test_a_summary_keeps_the_shape_and_cuts_the_texts():
    content = {"type": "x" * 10, "response": {"usage": {"a": 1}, "text": PICTURE}, "choices": [{"n": 1, "t": PICTURE}]}

    short = json.loads(summary(Event(b"e", json.dumps(content).encode())).content)

    cut = "A" * MAX_TEXT
    assert short == {**content, "response": {"usage": {"a": 1}, "text": cut}, "choices": [{"n": 1, "t": cut}]}
    assert summary(Event(b"", b"x" * 1000)).content == b"x" * MAX_TEXT
