"""An answer is held back until it may go to the client: whole, begun with content, or not at all."""

import asyncio
import time

import msgspec
import pytest

from nexus.errors import UpstreamError
from nexus.proxy.exchange import response as answers
from nexus.proxy.exchange.response import Answer
from nexus.proxy.exchange.response_memory import UNCOUNTED_BYTES, AnswerRoom, RoomShare
from nexus.proxy.upstream.response_head import AnswerHead, Mode
from nexus.wire.protocols import ENDPOINTS

JSON = (b"Content-Type", b"application/json")
EVENTS = (b"Content-Type", b"text/event-stream; charset=utf-8")
AUDIO = (b"Content-Type", b"audio/mpeg")


class FakeRelay:
    def __init__(self):
        self.data = b""
        self.how = None

    def forward(self, data):
        self.data += data

    def finish(self):
        self.how = "finished"

    def break_off(self, fault, message):
        self.how = fault.value


@pytest.fixture
async def answer(connection, ask):
    """An answer to a request for a stream."""
    return Answer(loop := asyncio.get_running_loop(), loop.create_future(), connection, ask(True))


@pytest.fixture
async def whole(connection, ask):
    """An answer to a request that is not for a stream."""
    return Answer(loop := asyncio.get_running_loop(), loop.create_future(), connection, ask(False))


@pytest.fixture
def relay():
    return FakeRelay()


def outcome_of(answer):
    """Say where an answer stands: waiting, ready, or the fault that it has failed with."""
    if not answer.ready.done():
        return "waiting"
    failure = answer.ready.exception()
    return "ready" if failure is None else failure.fault.value


# answers that are not streamed


async def test_a_document_is_held_until_it_is_whole(whole):
    whole.on_head(AnswerHead(200, [JSON]))
    whole.on_body(b'{"a":')
    before = outcome_of(whole)
    whole.on_body(b"1}")
    whole.on_end(is_framed=True)

    assert (before, outcome_of(whole)) == ("waiting", "ready")
    assert (whole.mode, whole.body, whole.is_framed) == (Mode.WHOLE, b'{"a":1}', True)


async def test_a_document_without_an_answer_in_it_may_answer_a_request_for_a_stream(answer):
    answer.on_head(AnswerHead(200, [JSON]))
    answer.on_body(b'{"a":1}')
    answer.on_end(is_framed=False)

    assert (outcome_of(answer), answer.mode, answer.is_framed, answer.body) == ("ready", Mode.WHOLE, False, b'{"a":1}')


@pytest.mark.parametrize(("status", "outcome"), [(200, "truncated"), (204, "ready")])
async def test_no_body_at_all_is_no_stream(answer, status, outcome):
    answer.on_head(AnswerHead(status, [JSON]))
    answer.on_end(is_framed=True)

    assert outcome_of(answer) == outcome


async def test_a_document_that_breaks_off_can_be_asked_for_elsewhere(whole, connection, sink):
    connection.send(b"", b"", whole)

    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
    connection.connection_lost(None)

    assert outcome_of(whole) == "truncated"


async def test_a_document_that_is_too_long_to_hold_is_passed_on(whole, relay, monkeypatch):
    monkeypatch.setattr(answers, "MAX_HELD_BYTES", 10)
    whole.on_head(AnswerHead(200, [JSON]))
    whole.on_body(b"x" * 6)
    before = outcome_of(whole)
    whole.on_body(b"x" * 6)
    whole.attach(relay)
    whole.on_body(b"y")
    whole.on_end(is_framed=True)

    assert (before, outcome_of(whole), whole.mode) == ("waiting", "ready", Mode.OPAQUE)
    assert (relay.data, relay.how) == (b"x" * 12 + b"y", "finished")


@pytest.mark.parametrize("headers", [[AUDIO], [JSON, (b"content-encoding", b"gzip")]])
async def test_what_cannot_be_read_passes_as_it_comes(whole, headers):
    whole.on_head(AnswerHead(200, headers))
    before = outcome_of(whole)
    whole.on_body(b"\xff")

    assert (before, outcome_of(whole), whole.mode) == ("waiting", "ready", Mode.OPAQUE)


@pytest.mark.parametrize(
    "headers", [[], [(b"content-type", b"text/plain")], [JSON, (b"Content-Encoding", b"identity")]]
)
async def test_what_can_be_read_is_held(whole, headers):
    whole.on_head(AnswerHead(200, headers))
    whole.on_body(b"x")

    assert (outcome_of(whole), whole.mode) == ("waiting", Mode.WHOLE)


@pytest.mark.parametrize("headers", [[JSON], [EVENTS], [(b"Content-Type", b"text/html")], [AUDIO]])
async def test_an_error_is_held_whatever_it_is(answer, headers):
    answer.on_head(AnswerHead(503, headers))
    answer.on_body(b"busy")
    answer.on_end(is_framed=True)

    assert (outcome_of(answer), answer.mode, answer.body) == ("ready", Mode.WHOLE, b"busy")


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
async def test_a_head_that_makes_no_sense_is_a_broken_protocol(answer, transport, status, headers):
    answer.on_head(AnswerHead(status, headers))

    assert outcome_of(answer) == "protocol"
    assert transport.is_aborted


@pytest.mark.parametrize("label", [JSON, (b"Content-Type", b"text/html; charset=utf-8")])
async def test_a_web_page_is_one_too(answer, transport, label):
    answer.on_head(AnswerHead(200, [label]))
    answer.on_body(b"<!DOC")
    answer.on_body(b"TYPE html>")

    assert (outcome_of(answer), transport.is_aborted) == ("protocol", True)


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/embeddings"])
async def test_so_is_a_stream_that_was_not_asked_for_and_makes_no_document(connection, transport, ask, path):
    loop = asyncio.get_running_loop()
    whole = Answer(loop, loop.create_future(), connection, ask(False, endpoint=ENDPOINTS[path]))
    whole.on_head(AnswerHead(200, [EVENTS]))
    whole.on_body(b"data: {}\n\n")

    assert (outcome_of(whole), transport.is_aborted) == ("protocol", True)


async def test_and_a_stream_in_the_framing_of_another_protocol(answer, transport):
    answer.on_head(AnswerHead(200, [(b"Content-Type", b"application/x-ndjson")]))
    answer.on_body(b'{"message":{"content":"a"},"done":false}\n' * 2)

    assert (outcome_of(answer), transport.is_aborted) == ("protocol", True)


# what is not what was asked for


@pytest.fixture
async def unasked(connection, ask):
    """An answer to a request for a document, whose events can be collected."""
    loop = asyncio.get_running_loop()
    question = ask(False)
    protocol, endpoint = question.protocol, question.endpoint
    question = msgspec.structs.replace(question, open_scan=lambda: protocol.open_stream(endpoint))
    return Answer(loop, loop.create_future(), connection, question)


CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
LAST_CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'


async def test_a_stream_that_was_not_asked_for_becomes_a_document(unasked):
    unasked.on_head(AnswerHead(200, [EVENTS]))
    unasked.on_body(CHUNK + LAST_CHUNK[:10])
    before = outcome_of(unasked)
    unasked.on_body(LAST_CHUNK[10:])
    unasked.on_end(is_framed=False)

    assert (before, outcome_of(unasked), unasked.mode, unasked.is_framed) == ("waiting", "ready", Mode.WHOLE, True)
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
    unasked.on_head(AnswerHead(200, [EVENTS]))
    unasked.on_body(events)
    if not unasked.ready.done():
        unasked.on_end(is_framed=True)

    assert outcome_of(unasked) == outcome


async def test_nor_is_a_very_long_one_collected(unasked, monkeypatch, transport):
    monkeypatch.setattr(answers, "MAX_HELD_BYTES", 1000)
    unasked.on_head(AnswerHead(200, [EVENTS]))
    unasked.on_body(CHUNK * 20)

    assert (outcome_of(unasked), transport.is_aborted) == ("protocol", True)


async def test_who_names_the_type_of_streams_gets_the_stream(connection, ask, relay):
    loop = asyncio.get_running_loop()
    question = ask(False, accept=b"application/json, Text/Event-Stream")
    answer = Answer(loop, loop.create_future(), connection, question)
    answer.on_head(AnswerHead(200, [EVENTS]))
    answer.on_body(b"data: hello\n")
    answer.attach(relay)

    assert (outcome_of(answer), answer.mode, relay.data) == ("ready", Mode.EVENTS, b"data: hello\n")


async def test_a_document_becomes_the_stream_that_was_asked_for(answer, relay):
    answer.on_head(AnswerHead(200, [JSON]))
    answer.on_body(b'{"id":"c","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}')
    answer.on_end(is_framed=True)
    answer.attach(relay)

    assert (outcome_of(answer), answer.mode, relay.how) == ("ready", Mode.EVENTS, "finished")
    assert answer.headers == [(b"Content-Type", b"text/event-stream")]
    assert relay.data.endswith(b"data: [DONE]\n\n")


async def test_a_stream_under_another_label_gets_its_own(answer):
    answer.on_head(AnswerHead(200, [(b"Content-Type", b"text/plain"), (b"X-Custom", b"1")]))
    answer.on_body(b"da")
    before = outcome_of(answer)
    answer.on_body(b"ta: hello\n")

    assert (before, outcome_of(answer), answer.mode) == ("waiting", "ready", Mode.EVENTS)
    assert answer.headers == [(b"X-Custom", b"1"), (b"Content-Type", b"text/event-stream")]


@pytest.mark.parametrize("label", [EVENTS, (b"Content-Type", b"text/html")])
async def test_a_document_under_a_label_that_no_document_has_gets_its_own(whole, label):
    whole.on_head(AnswerHead(200, [label]))
    whole.on_body(b'{"a":1}')
    whole.on_end(is_framed=True)

    assert (outcome_of(whole), whole.headers, whole.body) == ("ready", [JSON], b'{"a":1}')


@pytest.mark.parametrize("is_stream", [True, False])
async def test_an_error_that_calls_itself_a_success_is_that_error(connection, ask, is_stream):
    loop = asyncio.get_running_loop()
    answer = Answer(loop, loop.create_future(), connection, ask(is_stream))
    error = b'{\n  "id": "x",\n  "error": {"code": 429}\n}'
    answer.on_head(AnswerHead(200, [JSON]))
    answer.on_body(error)
    answer.on_end(is_framed=True)

    assert (outcome_of(answer), answer.ready.exception().status) == ("in_stream_error", 429)
    assert (answer.status, answer.body) == (429, error)


async def test_what_is_buffered_of_an_event_is_dropped_with_the_answer(answer, scan):
    answer.on_head(AnswerHead(200, [EVENTS]))
    answer.on_body(b"hel")

    answer.dismiss()

    assert scan.is_released


# streams


async def test_a_stream_is_held_until_it_has_content(answer, relay):
    answer.on_head(AnswerHead(200, [EVENTS]))
    steps = []
    for data in (b":comment\n", b"role\n", b"hel", b"lo\nwor"):
        answer.on_body(data)
        steps.append(outcome_of(answer))
    answer.attach(relay)
    answer.on_body(b"ld\nend\n")
    answer.on_end(is_framed=True)

    assert steps == ["waiting", "waiting", "waiting", "ready"]
    assert (relay.data, relay.how) == (b":comment\nrole\nhello\nworld\nend\n", "finished")
    assert answer.content_at >= answer.first_byte_at


async def test_events_without_content_are_not_held_for_ever(answer, monkeypatch):
    monkeypatch.setattr(answers, "COMMIT_HOLD_S", 0.01)
    answer.on_head(AnswerHead(200, [EVENTS]))
    answer.on_body(b"role\n")

    await asyncio.wait_for(answer.ready, 1)

    assert answer.content_at is None


async def test_content_that_comes_after_that_is_noticed_when_it_comes(answer, relay, monkeypatch):
    monkeypatch.setattr(answers, "COMMIT_HOLD_S", 0.0)
    answer.on_head(AnswerHead(200, [EVENTS]))
    answer.on_body(b"role\n")
    await asyncio.wait_for(answer.ready, 1)
    answer.attach(relay)
    released_at = time.monotonic()

    answer.on_body(b"role\n")
    before = answer.begun_at
    answer.on_body(b"hello\n")

    assert before is None
    assert answer.begun_at == answer.content_at >= released_at


async def test_nor_are_comments(answer, relay, monkeypatch):
    monkeypatch.setattr(answers, "COMMIT_HOLD_S", 0.01)
    answer.on_head(AnswerHead(200, [EVENTS]))
    answer.on_body(b":comment\n")
    before = outcome_of(answer)
    await asyncio.wait_for(answer.ready, 1)
    answer.attach(relay)

    assert (before, relay.data, answer.begun_at) == ("waiting", b":comment\n", None)


async def test_blank_lines_are_held(answer, monkeypatch):
    # As JSON lines, they make some clients fail: they go with what follows.
    monkeypatch.setattr(answers, "COMMIT_HOLD_S", 0.0)
    answer.on_head(AnswerHead(200, [EVENTS]))
    answer.on_body(b":\n")
    answer.hold_timer.cancel()
    answer.hold_timer = None
    answer.on_body(b"\n")

    assert answer.hold_timer is None


async def test_what_is_held_has_a_limit(answer, transport, monkeypatch):
    monkeypatch.setattr(answers, "MAX_HELD_BYTES", 100)
    answer.on_head(AnswerHead(200, [EVENTS]))
    for _ in range(20):
        answer.on_body(b":comment\n")

    assert (outcome_of(answer), transport.is_aborted) == ("protocol", True)


async def test_a_stream_that_begins_with_an_error_becomes_that_error(answer, transport):
    answer.on_head(AnswerHead(200, [EVENTS, (b"X-Custom", b"1")]))
    answer.on_body(b"error 429 busy\n")

    assert outcome_of(answer) == "in_stream_error"
    assert answer.ready.exception().status == 429
    assert (answer.status, answer.mode, answer.body) == (429, Mode.WHOLE, b'{"error": "of the stream"}')
    assert answer.headers == [(b"X-Custom", b"1"), JSON]
    assert (answer.is_ended, transport.is_aborted) == (True, True)


async def test_an_error_behind_content_is_the_relays(answer):
    answer.on_head(AnswerHead(200, [EVENTS]))
    answer.on_body(b"hello\nerror 500\n")

    assert outcome_of(answer) == "ready"


@pytest.mark.parametrize("said", [b"", b":comment\n", b"role\n", b"hel"])
async def test_a_stream_that_ends_before_it_says_anything_failed(answer, said):
    answer.on_head(AnswerHead(200, [EVENTS]))
    answer.on_body(said)
    answer.on_end(is_framed=True)

    assert outcome_of(answer) == "truncated"


async def test_a_stream_may_be_finished_without_content(answer, relay):
    answer.on_head(AnswerHead(200, [EVENTS]))
    answer.on_body(b"role\nend\n")
    answer.on_end(is_framed=True)
    answer.attach(relay)

    assert (outcome_of(answer), relay.data, relay.how) == ("ready", b"role\nend\n", "finished")


async def test_an_event_that_is_too_long_breaks_the_answer(answer, transport):
    answer.on_head(AnswerHead(200, [EVENTS]))
    answer.on_body(b"x" * 2000)

    assert (outcome_of(answer), transport.is_aborted) == ("event_too_large", True)


async def test_an_event_that_is_too_long_later_breaks_the_relay(answer, relay, transport):
    answer.on_head(AnswerHead(200, [EVENTS]))
    answer.on_body(b"hello\n")
    answer.attach(relay)
    answer.on_body(b"x" * 2000)

    assert (relay.how, transport.is_aborted) == ("event_too_large", True)


# what happens between the decision and the relay


@pytest.mark.parametrize("is_broken", [True, False])
async def test_the_relay_hears_of_an_end_before_its_time(answer, connection, relay, is_broken):
    connection.send(b"", b"", answer)
    wire = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 10\r\n\r\nhello\n"
    connection.data_received(wire if is_broken else wire + b"end\n")
    connection.connection_lost(None)

    answer.attach(relay)

    assert relay.how == ("truncated" if is_broken else "finished")


async def test_who_is_detached_hears_nothing_more(answer, relay):
    answer.on_head(AnswerHead(200, [EVENTS]))
    answer.on_body(b"hello\n")
    answer.attach(relay)
    answer.detach()

    answer.on_body(b"more\n")
    answer.on_end(is_framed=True)

    assert (relay.data, relay.how) == (b"hello\n", None)


# giving up


async def test_an_answer_that_does_not_begin_is_given_up(answer):
    answer.give_up_waiting()

    with pytest.raises(UpstreamError, match="did not begin in time"):
        await answer.ready


async def test_an_answer_that_has_begun_is_not(answer):
    answer.on_head(AnswerHead(200, [EVENTS]))
    answer.on_body(b"hello\n")

    answer.give_up_waiting()

    assert outcome_of(answer) == "ready"


@pytest.mark.parametrize("said", [b"role\n", b"hello\n", b"error 500\n"])
async def test_an_answer_that_is_dismissed_leaves_nothing_behind(answer, said):
    answer.on_head(AnswerHead(200, [EVENTS]))
    answer.on_body(said)

    answer.dismiss()
    answer.dismiss()

    assert answer.ready.done()
    assert answer.hold_timer is None or answer.hold_timer.cancelled()


# how much is held


async def test_no_more_of_a_stream_is_read_until_it_is_relayed(answer, transport):
    answer.on_head(AnswerHead(200, [EVENTS]))
    answer.on_body(b"role\n")
    before = transport.is_reading_paused
    answer.on_body(b"hello\n")

    assert (before, transport.is_reading_paused) == (False, True)


async def test_a_document_for_which_there_is_no_room_is_passed_on_as_it_comes(whole):
    room = AnswerRoom(max_bytes=100_000)
    whole.share = RoomShare(room)
    whole.on_head(AnswerHead(200, [JSON]))
    whole.on_body(b'{"a":"' + b"x" * (UNCOUNTED_BYTES + 99_000))
    before = outcome_of(whole)
    whole.on_body(b"x" * 2000)
    used_bytes = room.used_bytes
    whole.forget()

    assert (before, outcome_of(whole), whole.mode) == ("waiting", "ready", Mode.OPAQUE)
    assert (used_bytes, room.used_bytes) == (99_006, 0)


async def test_an_error_is_held_whatever_room_there_is(whole):
    whole.share = RoomShare(AnswerRoom(max_bytes=1))
    whole.on_head(AnswerHead(400, [JSON]))
    whole.on_body(b'{"error":"' + b"x" * UNCOUNTED_BYTES + b'"}')
    before = outcome_of(whole)
    whole.on_end(is_framed=True)

    assert (before, outcome_of(whole), whole.mode) == ("waiting", "ready", Mode.WHOLE)


async def test_short_documents_need_no_room(whole):
    whole.share = RoomShare(AnswerRoom(max_bytes=1))
    whole.on_head(AnswerHead(200, [JSON]))
    whole.on_body(b'{"a":1}')
    whole.on_end(is_framed=True)

    assert (outcome_of(whole), whole.mode) == ("ready", Mode.WHOLE)
