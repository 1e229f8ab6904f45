"""The kind of an answer does not depend on how its bytes are cut, and no answer makes the decision fail."""

import asyncio
import json
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nexus.errors import UpstreamError
from nexus.proxy.exchange.expected_response import ExpectedResponse
from nexus.proxy.exchange.response import Response
from nexus.proxy.upstream.response_parser import ResponseHead
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS
from nexus.wire.responses.nature import ExpectedFormat, Label, error_in, nature_of
from nexus.wire.streams.event import Event
from tests.support.dialects import DIALECTS

LABELS = [
    b"application/json",
    b"text/event-stream",
    b"application/x-ndjson",
    b"text/plain",
    b"text/html",
    b"application/octet-stream",
    b"",
]
ERRORS = [
    b'{"error":{"message":"no","code":429}}',
    b'{\n  "id": "x",\n  "error": "no"\n}',
    b'{"error":"no"}\n',
    b'{"object":"error","message":"no","code":400}',
    b'{"type":"error","error":{"type":"overloaded_error"}}',
    b'{"detail":"no"}',
    b"<!DOCTYPE html><h1>no</h1>",
    b"no",
    b"",
]
BODIES = [
    *ERRORS,
    *(dialect.whole for dialect in DIALECTS),
    *(b"".join(dialect.events) for dialect in DIALECTS),
    *(b"".join(dialect.events[:-1]) for dialect in DIALECTS),
    *(b"\n\n: ping\n\n" + b"".join(dialect.events) for dialect in DIALECTS),
    *(b"\xef\xbb\xbf" + dialect.events[0] for dialect in DIALECTS),
    *(b'data: {"error":{"code":503}}\n\n' + dialect.events[0] for dialect in DIALECTS),
    b'{"model":"m","done":true,"done_reason":"load"}',
    b'{"error":"no"}\n{"done":true}\n',
]
CUTS = st.lists(st.integers(0, 10_000), max_size=8)
NAMES = st.sampled_from(
    (
        *(
            "error",
            "type",
            "object",
            "detail",
            "choices",
            "index",
            "message",
            "delta",
            "content",
            "tool_calls",
            "usage",
        ),
        *("text", "response", "output", "model", "done", "role", "function", "content_block", "input", "id", "item"),
    )
)
WORDS = st.sampled_from(
    (
        *("error", "response", "message_start", "content_block_start", "content_block_delta", "message_delta", "text"),
        *(
            "response.completed",
            "image_generation.completed",
            "transcript.text.done",
            "tool_use",
            "thinking",
            "message",
        ),
        *("function_call", "chat.completion.chunk", "refusal"),
    )
)
ODD_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 600) | st.just(1.5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=24,
)


class Connection:
    """What an answer requires of its connection."""

    def abandon(self):
        pass

    def wakes(self):
        pass

    def pause_reading(self):
        pass

    def pass_to(self, sink):
        pass


class Relay:
    def __init__(self):
        self.sent = b""
        self.end = ""
        self.code = None

    def forward(self, data):
        self.sent += data

    def on_end(self, *, is_framed):
        self.end = "finished"

    def on_failed(self, fault, message):
        self.end = f"{fault}: {message}"


def cut(body, cuts):
    edges = [0, *sorted(c % (len(body) + 1) for c in cuts), len(body)]
    return [body[a:b] for a, b in pairwise(edges) if a < b]


def verdict(loop, path, content_type, pieces, *, is_stream):
    """Return everything that is decided about an answer that comes in *pieces*."""
    endpoint = ENDPOINTS[path]
    protocol = PROTOCOLS[endpoint.protocol]
    asked = ExpectedFormat(is_stream, endpoint.streams_by_default, endpoint.may_be_text)
    question = ExpectedResponse(protocol, endpoint, asked, lambda: protocol.open_stream(endpoint))
    answer = Response(loop, loop.create_future(), Connection(), question)
    answer.on_head(ResponseHead(200, [(b"Content-Type", content_type)] if content_type else []))
    for piece in pieces:
        if not answer.ready.done() or answer.ready.exception() is None:
            answer.on_body(piece)
    if not answer.ready.done() or answer.ready.exception() is None:
        answer.on_end(is_framed=True)
    answer.dismiss()
    failure = answer.ready.exception()
    if isinstance(failure, UpstreamError):
        return failure.fault, failure.status, answer.status, answer.body if answer.status >= 400 else b""
    relay = Relay()
    answer.hand_over(relay)
    return answer.nature, answer.mode, answer.status, answer.headers, relay.sent, relay.end


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("is_stream", [True, False])
@given(body=st.sampled_from(BODIES), content_type=st.sampled_from(LABELS), cuts=CUTS)
@example(body=BODIES[0], content_type=b"application/json", cuts=list(range(20)))
@settings(max_examples=200)
def test_an_answer_is_judged_alike_however_its_bytes_are_cut(loop, dialect, is_stream, body, content_type, cuts):
    whole = verdict(loop, dialect.path, content_type, [body] if body else [], is_stream=is_stream)

    assert verdict(loop, dialect.path, content_type, cut(body, cuts), is_stream=is_stream) == whole


@given(
    asked=st.builds(ExpectedFormat, st.booleans(), st.booleans(), st.booleans()),
    label=st.sampled_from(get_args(Label)),
    body=st.sampled_from(BODIES) | st.binary(max_size=40),
    at=st.integers(0, 10_000),
)
def test_no_further_byte_changes_a_verdict(asked, label, body, at):
    early = nature_of(asked, label, body[: at % (len(body) + 1)])

    assert early is None or early is nature_of(asked, label, body, is_all=True)


@given(body=st.sampled_from(ERRORS[:6]), content_type=st.sampled_from(LABELS), is_stream=st.booleans())
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_an_error_is_one_under_every_label_whatever_was_asked(loop, dialect, body, content_type, is_stream):
    fault, status, shown, text = verdict(loop, dialect.path, content_type, [body], is_stream=is_stream)

    assert fault.value == "in_stream_error"
    assert status == shown == error_in(body)
    assert json.loads(text) == json.loads(body)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@given(document=ODD_JSON, name=st.sampled_from([b"", b"error", b"message_start", b"content_block_delta"]))
@settings(max_examples=300)
def test_no_document_and_no_event_breaks_the_converters(dialect, document, name):
    endpoint = ENDPOINTS[dialect.path]
    protocol = PROTOCOLS[endpoint.protocol]
    body = json.dumps(document).encode()
    collector = protocol.collector(endpoint)

    protocol.as_stream(endpoint, body)
    error_in(body)
    for event in (*protocol.open_stream(endpoint)._framing.events(b"".join(dialect.events[:2])), Event(name, body)):
        collector.add(event)
        collector.document()
