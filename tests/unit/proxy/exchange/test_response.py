"""An answer is held back until it may go to the client: whole, begun with content, or not at all."""

import asyncio

import msgspec
import pytest

from nexus.errors import UpstreamError
from nexus.proxy.exchange import response as answers
from nexus.proxy.exchange.response import Response
from nexus.proxy.exchange.response_memory import UNCOUNTED_BYTES, MemoryShare, ResponseMemory
from nexus.proxy.upstream.response_parser import ResponseHead
from nexus.wire.protocols import ENDPOINTS

JSON = (b"Content-Type", b"application/json")
EVENTS = (b"Content-Type", b"text/event-stream; charset=utf-8")
AUDIO = (b"Content-Type", b"audio/mpeg")


class FakeRelay:
    def __init__(self):
        self.data = b""
        self.how = None
        self.code = None

    def forward(self, data):
        self.data += data

    on_body = forward

    def on_end(self, *, is_framed):
        self.how = "finished"

    def on_failed(self, fault, message):
        self.how = fault.value


@pytest.fixture
async def response(connection, ask):
    """An answer to a request for a stream."""
    return Response(loop := asyncio.get_running_loop(), loop.create_future(), connection, ask(True))


@pytest.fixture
async def whole(connection, ask):
    """An answer to a request that is not for a stream."""
    return Response(loop := asyncio.get_running_loop(), loop.create_future(), connection, ask(False))


@pytest.fixture
def relay():
    return FakeRelay()


def outcome_of(response):
    """Say where an answer stands: waiting, ready, or the fault that it has failed with."""
    if not response.ready.done():
        return "waiting"
    failure = response.ready.exception()
    return "ready" if failure is None else failure.fault.value


# answers that are not streamed


async def test_a_document_is_held_until_it_is_whole(whole):
    whole.on_head(ResponseHead(200, [JSON]))
    whole.on_body(b'{"a":')
    before = outcome_of(whole)
    whole.on_body(b"1}")
    whole.on_end(is_framed=True)

    assert (before, outcome_of(whole)) == ("waiting", "ready")
    assert (whole.mode, whole.body, whole.is_framed) == ("whole", b'{"a":1}', True)


async def test_a_document_without_an_answer_in_it_may_answer_a_request_for_a_stream(response):
    response.on_head(ResponseHead(200, [JSON]))
    response.on_body(b'{"a":1}')
    response.on_end(is_framed=False)

    assert (outcome_of(response), response.mode, response.is_framed, response.body) == (
        "ready",
        "whole",
        False,
        b'{"a":1}',
    )


@pytest.mark.parametrize(("status", "outcome"), [(200, "truncated"), (204, "ready")])
async def test_no_body_at_all_is_no_stream(response, status, outcome):
    response.on_head(ResponseHead(status, [JSON]))
    response.on_end(is_framed=True)

    assert outcome_of(response) == outcome


async def test_a_document_that_breaks_off_can_be_asked_for_elsewhere(whole, connection, sink):
    connection.send(b"", b"", whole)

    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
    connection.connection_lost(None)

    assert outcome_of(whole) == "truncated"


async def test_a_document_that_is_too_long_to_hold_is_passed_on(whole, relay, monkeypatch):
    monkeypatch.setattr(answers, "MAX_HELD_BYTES", 10)
    monkeypatch.setattr(answers, "UNCOUNTED_BYTES", 0)
    whole.on_head(ResponseHead(200, [JSON]))
    whole.on_body(b"x" * 6)
    before = outcome_of(whole)
    whole.on_body(b"x" * 6)
    whole.hand_over(relay)

    assert (before, outcome_of(whole), whole.mode) == ("waiting", "ready", "opaque")
    assert relay.data == b"x" * 12


@pytest.mark.parametrize("headers", [[AUDIO], [JSON, (b"content-encoding", b"gzip")]])
async def test_what_cannot_be_read_passes_as_it_comes(whole, headers):
    whole.on_head(ResponseHead(200, headers))
    before = outcome_of(whole)
    whole.on_body(b"\xff")

    assert (before, outcome_of(whole), whole.mode) == ("waiting", "ready", "opaque")


@pytest.mark.parametrize(
    "headers", [[], [(b"content-type", b"text/plain")], [JSON, (b"Content-Encoding", b"identity")]]
)
async def test_what_can_be_read_is_held(whole, headers):
    whole.on_head(ResponseHead(200, headers))
    whole.on_body(b"x")

    assert (outcome_of(whole), whole.mode) == ("waiting", "whole")


@pytest.mark.parametrize("headers", [[JSON], [EVENTS], [(b"Content-Type", b"text/html")], [AUDIO]])
async def test_an_error_is_held_whatever_it_is(response, headers):
    response.on_head(ResponseHead(503, headers))
    response.on_body(b"busy")
    response.on_end(is_framed=True)

    assert (outcome_of(response), response.mode, response.body) == ("ready", "whole", b"busy")


# heads that cannot be passed on


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (302, [(b"Location", b"http://127.0.0.1:1/steal")]),
        (999, [JSON]),
        (50, [JSON]),
        (200, [EVENTS, (b"Transfer-Encoding", b"gzip, chunked")]),
    ],
)
async def test_a_head_that_makes_no_sense_is_a_broken_protocol(response, transport, status, headers):
    response.on_head(ResponseHead(status, headers))

    assert outcome_of(response) == "protocol"
    assert transport.is_aborted


@pytest.mark.parametrize("label", [JSON, (b"Content-Type", b"text/html; charset=utf-8")])
async def test_a_web_page_is_one_too(response, transport, label):
    response.on_head(ResponseHead(200, [label]))
    response.on_body(b"<!DOC")
    response.on_body(b"TYPE html>")

    assert (outcome_of(response), transport.is_aborted) == ("protocol", True)


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/embeddings"])
async def test_so_is_a_stream_that_was_not_asked_for_and_makes_no_document(connection, transport, ask, path):
    loop = asyncio.get_running_loop()
    whole = Response(loop, loop.create_future(), connection, ask(False, endpoint=ENDPOINTS[path]))
    whole.on_head(ResponseHead(200, [EVENTS]))
    whole.on_body(b"data: {}\n\n")

    assert (outcome_of(whole), transport.is_aborted) == ("protocol", True)


async def test_and_a_stream_in_the_framing_of_another_protocol(response, transport):
    response.on_head(ResponseHead(200, [(b"Content-Type", b"application/x-ndjson")]))
    response.on_body(b'{"message":{"content":"a"},"done":false}\n' * 2)

    assert (outcome_of(response), transport.is_aborted) == ("protocol", True)


# what is not what was asked for


@pytest.fixture
async def unasked(connection, ask):
    """An answer to a request for a document, whose events can be collected."""
    loop = asyncio.get_running_loop()
    expected = ask(False)
    protocol, endpoint = expected.protocol, expected.endpoint
    expected = msgspec.structs.replace(expected, open_scan=lambda: protocol.open_stream(endpoint))
    return Response(loop, loop.create_future(), connection, expected)


CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
LAST_CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'


async def test_a_stream_that_was_not_asked_for_becomes_a_document(unasked):
    unasked.on_head(ResponseHead(200, [EVENTS]))
    unasked.on_body(CHUNK + LAST_CHUNK[:10])
    before = outcome_of(unasked)
    unasked.on_body(LAST_CHUNK[10:])
    unasked.on_end(is_framed=False)

    assert (before, outcome_of(unasked), unasked.mode, unasked.is_framed) == ("waiting", "ready", "whole", True)
    assert unasked.headers == [JSON]
    assert b'"content":"hi"' in unasked.body


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        (CHUNK, "truncated"),
        (CHUNK + b'data: {"error":{"message":"no"}}\n\n', "in_stream_error"),
        (b'data: {"error":{"message":"no"}}', "in_stream_error"),
        (b'data: {"error":{"message":"no"}}\n\n', "in_stream_error"),
        (b"data: [DONE]\n\n", "truncated"),
        (b": comment\n\n", "truncated"),
    ],
)
async def test_one_that_does_not_end_well_can_be_asked_for_elsewhere(unasked, events, outcome):
    unasked.on_head(ResponseHead(200, [EVENTS]))
    unasked.on_body(events)
    if not unasked.ready.done():
        unasked.on_end(is_framed=True)

    assert outcome_of(unasked) == outcome


async def test_nor_is_a_very_long_one_collected(unasked, monkeypatch, transport):
    monkeypatch.setattr(answers, "MAX_HELD_BYTES", 1000)
    unasked.on_head(ResponseHead(200, [EVENTS]))
    unasked.on_body(CHUNK * 20)

    assert (outcome_of(unasked), transport.is_aborted) == ("protocol", True)


async def test_who_names_the_type_of_streams_gets_the_stream(connection, ask, relay):
    loop = asyncio.get_running_loop()
    expected = ask(False, accept=b"application/json, Text/Event-Stream")
    response = Response(loop, loop.create_future(), connection, expected)
    response.on_head(ResponseHead(200, [EVENTS]))
    response.on_body(b"data: hello\n")
    response.hand_over(relay)

    assert (outcome_of(response), response.mode, relay.data) == ("ready", "events", b"data: hello\n")


async def test_a_document_becomes_the_stream_that_was_asked_for(response, relay):
    response.on_head(ResponseHead(200, [JSON]))
    response.on_body(b'{"id":"c","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}')
    response.on_end(is_framed=True)
    response.hand_over(relay)

    assert (outcome_of(response), response.mode, relay.how) == ("ready", "events", "finished")
    assert response.headers == [(b"Content-Type", b"text/event-stream")]
    assert relay.data.endswith(b"data: [DONE]\n\n")


async def test_a_stream_under_another_label_gets_its_own(response):
    response.on_head(ResponseHead(200, [(b"Content-Type", b"text/plain"), (b"X-Custom", b"1")]))
    response.on_body(b"da")
    before = outcome_of(response)
    response.on_body(b"ta: hello\n")

    assert (before, outcome_of(response), response.mode) == ("waiting", "ready", "events")
    assert response.headers == [(b"X-Custom", b"1"), (b"Content-Type", b"text/event-stream")]


@pytest.mark.parametrize("label", [EVENTS, (b"Content-Type", b"text/html")])
async def test_a_document_under_a_label_that_no_document_has_gets_its_own(whole, label):
    whole.on_head(ResponseHead(200, [label]))
    whole.on_body(b'{"a":1}')
    whole.on_end(is_framed=True)

    assert (outcome_of(whole), whole.headers, whole.body) == ("ready", [JSON], b'{"a":1}')


@pytest.mark.parametrize("is_stream", [True, False])
async def test_an_error_that_calls_itself_a_success_is_that_error(connection, ask, is_stream):
    loop = asyncio.get_running_loop()
    response = Response(loop, loop.create_future(), connection, ask(is_stream))
    error = b'{\n  "id": "x",\n  "error": {"code": 429}\n}'
    response.on_head(ResponseHead(200, [JSON]))
    response.on_body(error)
    response.on_end(is_framed=True)

    assert (outcome_of(response), response.ready.exception().status) == ("in_stream_error", 429)
    assert (response.status, response.body) == (429, error)


async def test_what_is_buffered_of_an_event_is_dropped_with_the_answer(response, scan):
    response.on_head(ResponseHead(200, [EVENTS]))
    response.on_body(b"hel")

    response.dismiss()

    assert scan.is_released


# streams


async def test_a_stream_is_held_until_it_has_content(response, relay):
    response.on_head(ResponseHead(200, [EVENTS]))
    steps = []
    for data in (b":comment\n", b"role\n", b"hel", b"lo\nwor"):
        response.on_body(data)
        steps.append(outcome_of(response))
    response.hand_over(relay)

    assert steps == ["waiting", "waiting", "waiting", "ready"]
    assert relay.data == b":comment\nrole\nhello\n"
    assert response.content_at >= response.first_byte_at


async def test_events_without_content_are_not_held_for_ever(response, monkeypatch):
    monkeypatch.setattr(answers, "COMMIT_HOLD_S", 0.01)
    response.on_head(ResponseHead(200, [EVENTS]))
    response.on_body(b"role\n")

    await asyncio.wait_for(response.ready, 1)

    assert response.content_at is None


async def test_nor_are_comments(response, relay, monkeypatch):
    monkeypatch.setattr(answers, "COMMIT_HOLD_S", 0.01)
    response.on_head(ResponseHead(200, [EVENTS]))
    response.on_body(b":comment\n")
    before = outcome_of(response)
    await asyncio.wait_for(response.ready, 1)
    response.hand_over(relay)

    assert (before, relay.data, response.begun_at) == ("waiting", b":comment\n", None)


async def test_blank_lines_are_held(response, monkeypatch):
    # As JSON lines, they make some clients fail: they go with what follows.
    monkeypatch.setattr(answers, "COMMIT_HOLD_S", 0.0)
    response.on_head(ResponseHead(200, [EVENTS]))
    response.on_body(b":\n")
    response.hold_timer.cancel()
    response.hold_timer = None
    response.on_body(b"\n")

    assert response.hold_timer is None


async def test_what_is_held_has_a_limit(response, transport, monkeypatch):
    monkeypatch.setattr(answers, "MAX_HELD_BYTES", 100)
    response.on_head(ResponseHead(200, [EVENTS]))
    for _ in range(20):
        response.on_body(b":comment\n")

    assert (outcome_of(response), transport.is_aborted) == ("protocol", True)


async def test_a_stream_that_begins_with_an_error_becomes_that_error(response, transport):
    response.on_head(ResponseHead(200, [EVENTS, (b"X-Custom", b"1")]))
    response.on_body(b"error 429 busy\n")

    assert outcome_of(response) == "in_stream_error"
    assert response.ready.exception().status == 429
    assert (response.status, response.mode, response.body) == (429, "whole", b'{"error": "of the stream"}')
    assert response.headers == [(b"X-Custom", b"1"), JSON]
    assert (response.is_ended, transport.is_aborted) == (True, True)


async def test_an_error_behind_content_is_the_relays(response):
    response.on_head(ResponseHead(200, [EVENTS]))
    response.on_body(b"hello\nerror 500\n")

    assert outcome_of(response) == "ready"


@pytest.mark.parametrize("said", [b"", b":comment\n", b"role\n", b"hel"])
async def test_a_stream_that_ends_before_it_says_anything_failed(response, said):
    response.on_head(ResponseHead(200, [EVENTS]))
    response.on_body(said)
    response.on_end(is_framed=True)

    assert outcome_of(response) == "truncated"


async def test_a_stream_may_be_finished_without_content(response, relay):
    response.on_head(ResponseHead(200, [EVENTS]))
    response.on_body(b"role\nend\n")
    response.on_end(is_framed=True)
    response.hand_over(relay)

    assert (outcome_of(response), relay.data, relay.how) == ("ready", b"role\nend\n", "finished")


async def test_an_event_that_is_too_long_breaks_the_answer(response, transport):
    response.on_head(ResponseHead(200, [EVENTS]))
    response.on_body(b"x" * 2000)

    assert (outcome_of(response), transport.is_aborted) == ("event_too_large", True)


# what happens between the decision and the relay


@pytest.mark.parametrize("is_broken", [True, False])
async def test_the_relay_hears_of_an_end_before_its_time(response, connection, relay, is_broken):
    connection.send(b"", b"", response)
    wire = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 10\r\n\r\nhello\n"
    connection.data_received(wire if is_broken else wire + b"end\n")
    connection.connection_lost(None)

    response.hand_over(relay)

    assert relay.how == ("truncated" if is_broken else "finished")


async def test_all_that_follows_goes_to_the_relay(response, connection, relay):
    connection.send(b"", b"", response)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.data_received(head + b"6\r\nhello\n\r\n")

    response.hand_over(relay)
    connection.data_received(b"4\r\nend\n\r\n")
    connection.data_received(b"0\r\n\r\n")

    assert (relay.data, relay.how) == (b"hello\nend\n", "finished")


# giving up


async def test_an_answer_that_does_not_begin_is_given_up(response):
    response.give_up_waiting()

    with pytest.raises(UpstreamError, match="did not begin in time"):
        await response.ready


async def test_an_answer_that_has_begun_is_not(response):
    response.on_head(ResponseHead(200, [EVENTS]))
    response.on_body(b"hello\n")

    response.give_up_waiting()

    assert outcome_of(response) == "ready"


@pytest.mark.parametrize("said", [b"role\n", b"hello\n", b"error 500\n"])
async def test_an_answer_that_is_dismissed_leaves_nothing_behind(response, said):
    response.on_head(ResponseHead(200, [EVENTS]))
    response.on_body(said)

    response.dismiss()
    response.dismiss()

    assert response.ready.done()
    assert response.hold_timer is None or response.hold_timer.cancelled()


# how much is held


async def test_no_more_of_a_stream_is_read_until_it_is_relayed(response, transport):
    response.on_head(ResponseHead(200, [EVENTS]))
    response.on_body(b"role\n")
    before = transport.is_reading_paused
    response.on_body(b"hello\n")

    assert (before, transport.is_reading_paused) == (False, True)


async def test_a_document_for_which_there_is_no_room_is_passed_on_as_it_comes(whole):
    room = ResponseMemory(max_bytes=100_000)
    whole.share = MemoryShare(room)
    whole.on_head(ResponseHead(200, [JSON]))
    whole.on_body(b'{"a":"' + b"x" * (UNCOUNTED_BYTES + 99_000))
    before = outcome_of(whole)
    whole.on_body(b"x" * 2000)
    used_bytes = room.used_bytes
    whole.forget()

    assert (before, outcome_of(whole), whole.mode) == ("waiting", "ready", "opaque")
    assert (used_bytes, room.used_bytes) == (99_006, 0)


async def test_an_error_is_held_whatever_room_there_is(whole):
    whole.share = MemoryShare(ResponseMemory(max_bytes=1))
    whole.on_head(ResponseHead(400, [JSON]))
    whole.on_body(b'{"error":"' + b"x" * UNCOUNTED_BYTES + b'"}')
    before = outcome_of(whole)
    whole.on_end(is_framed=True)

    assert (before, outcome_of(whole), whole.mode) == ("waiting", "ready", "whole")


async def test_short_documents_need_no_room(whole):
    whole.share = MemoryShare(ResponseMemory(max_bytes=1))
    whole.on_head(ResponseHead(200, [JSON]))
    whole.on_body(b'{"a":1}')
    whole.on_end(is_framed=True)

    assert (outcome_of(whole), whole.mode) == ("ready", "whole")
