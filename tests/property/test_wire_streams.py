"""The content of a stream does not depend on how its bytes are cut."""

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nexus.wire.protocols import ENDPOINTS, PROTOCOLS
from nexus.wire.streams.event_buffer import EventRoom, EventTooLargeError
from nexus.wire.streams.sse import SSEFraming

SSE_PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/audio/speech"]

CONTENTS = [
    "[DONE]",
    "not JSON",
    '{"error":{"message":"m","code":503}}',
    '{"error":null,"choices":[]}',
    '{"choices":[{"delta":{"role":"assistant","content":""}}],"usage":null}',
    '{"choices":[{"delta":{"content":"\\"error\\" \\"prompt_tokens\\":9"}}]}',
    '{"choices":[{"delta":{},"finish_reason":"stop"}]}',
    '{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}',
    '{"choices":[],"usage":{"prompt_tokens":-1}}',
    '{"type":"response.created","sequence_number":7,"response":{"error":null}}',
    '{"type":"response.completed","response":{"usage":{"input_tokens":5,"output_tokens":6}}}',
    '{"type":"message_start","message":{"usage":{"input_tokens":8,"output_tokens":1}}}',
    '{"type":"content_block_delta","delta":{"text":"é\\n\\n"}}',
    '{"type":"message_delta","usage":{"output_tokens":9}}',
    '{"type":"message_stop"}',
    '{"type":"error","message":"m"}',
]
LINES = [
    "\n",
    "\xff\x00\n",
    '{"message":{"role":"assistant","content":""},"done":false}\n',
    '{"message":{"content":"é"},"done":false}\r\n',
    '{"error":"broken"}\n',
    '{"response":"x","done":true,"prompt_eval_count":3,"eval_count":5}\n',
    '{"done":true,"eval_count":"many"}\n',
    '{"done":tr',
]


@st.composite
def event_streams(draw) -> bytes:
    """Streams like WHATWG's test vectors: any line end, comments, several data lines, other fields."""
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    parts = [draw(st.sampled_from(["", "\ufeff"]))]
    for content in draw(st.lists(st.sampled_from(CONTENTS), max_size=8)):
        kind = json.loads(content).get("type") if '"type"' in content and draw(st.booleans()) else None
        lines = [
            *draw(st.lists(st.sampled_from([": ping", ":", "id: 1", "retry: 10", "unknown: x"]), max_size=2)),
            *([f"event: {kind}"] if kind else []),
            *[f"data:{draw(st.sampled_from(['', ' ']))}{content}"],
            *draw(st.sampled_from([[], [], ["data: and more"]])),
        ]
        parts += [line + end for line in lines]
        parts.append(draw(st.sampled_from(["\n", "\r\n"])) if end != "\r" else end)
        parts += draw(st.sampled_from([[], [f": keep-alive{end}{end}"]]))
    parts += draw(st.sampled_from([[], ["data: half"], [f"data: [DONE]{end}"]]))
    return "".join(parts).encode()


def watched(path, pieces):
    """Everything that a scan reports of a stream that came in *pieces*."""
    endpoint = ENDPOINTS[path]
    scan = PROTOCOLS[endpoint.protocol].open_stream(endpoint)
    given_back = b"".join(scan.feed(piece) for piece in pieces)
    return (
        given_back,
        scan.has_content,
        scan.has_error,
        scan.data_blocks > 0,
        scan.is_finished(),
        scan.closing(),
        scan.first_error(),
        scan.usage(),
        scan.failure("stream_truncated", "cut"),
    )


def cut(stream, cuts):
    edges = [0, *sorted(c % (len(stream) + 1) for c in cuts), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


CUTS = st.lists(st.integers(0, 10_000), max_size=12)


LATE_START = (
    b'data:{"type":"error","message":"m"}\n\ndata:[DONE]\n\n'
    b'data:{"type":"message_start","message":{"usage":{"input_tokens":8,"output_tokens":1}}}\n\n'
    b'data:{"type":"message_delta","usage":{"output_tokens":9}}\n\n'
)


@pytest.mark.parametrize("path", SSE_PATHS)
@given(stream=event_streams(), cuts=CUTS)
@example(stream=LATE_START, cuts=[50])
@settings(max_examples=150)
def test_events_do_not_depend_on_how_the_bytes_are_cut(path, stream, cuts):
    assert watched(path, cut(stream, cuts)) == watched(path, [stream])


@given(
    stream=st.lists(st.sampled_from(LINES), max_size=8).map(lambda lines: "".join(lines).encode("latin-1")), cuts=CUTS
)
def test_lines_do_not_depend_on_how_the_bytes_are_cut(stream, cuts):
    assert watched("/api/chat", cut(stream, cuts)) == watched("/api/chat", [stream])


@pytest.mark.parametrize("path", [*SSE_PATHS, "/api/chat"])
@given(stream=event_streams() | st.binary(), cuts=CUTS)
def test_what_is_given_back_is_what_came(path, stream, cuts):
    given_back, *_, failure = watched(path, cut(stream, cuts))

    assert stream.startswith(given_back)
    assert failure.endswith(b"\n")


@given(stream=event_streams(), cuts=CUTS)
def test_events_are_what_a_plain_reader_finds(stream, cuts):
    framing = SSEFraming()
    blocks = [framing.feed(piece) for piece in cut(stream, cuts)]

    events = [event.content.decode() for block in blocks for event in framing.events(block)]

    assert events == plainly_read(stream.decode())


def plainly_read(stream):
    """The data of each event, read line by line as specified."""
    lines = stream.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    found, collected = [], []
    for line in lines[:-1]:
        if line.startswith("data:"):
            collected.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and collected:
            found.append("\n".join(collected))
            collected = []
    return found


@given(st.binary() | st.sampled_from(CONTENTS + LINES).map(lambda text: text.encode("latin-1", "replace")))
def test_any_answer_can_be_asked_for_its_usage(body):
    for endpoint in ENDPOINTS.values():
        protocol = PROTOCOLS[endpoint.protocol]
        usage = protocol.usage_of(body)
        assert usage is None or 0 <= usage.total_tokens <= 40_000_000
        assert protocol.looks_complete(endpoint, body) in (True, False)


@pytest.mark.parametrize("path", [*SSE_PATHS, "/api/chat"])
@given(size=st.integers(1024 * 1024 - 20, 1024 * 1024 + 20), piece=st.sampled_from([65_536, 2_000_000]))
@settings(max_examples=10)
def test_an_event_that_is_too_long_is_refused_wherever_it_is_cut(path, size, piece):
    end = b"\n" if path == "/api/chat" else b"\n\n"
    event = b"data:".ljust(size - len(end), b"x") + end
    stream = end + event
    endpoint = ENDPOINTS[path]
    scan = PROTOCOLS[endpoint.protocol].open_stream(endpoint)
    scan.bound(EventRoom(max_event_bytes=1024 * 1024))

    try:
        for at in range(0, len(stream), piece):
            scan.feed(stream[at : at + piece])
    except EventTooLargeError:
        assert size > 1024 * 1024
    else:
        assert size <= 1024 * 1024


def test_failures_are_json_in_each_protocol():
    for endpoint in ENDPOINTS.values():
        scan = PROTOCOLS[endpoint.protocol].open_stream(endpoint)
        event = scan.failure("stream_stalled", 'it said "nothing"\n')
        content = event.split(b"data: ")[-1]
        assert msgspec.json.decode(content)["error"]
