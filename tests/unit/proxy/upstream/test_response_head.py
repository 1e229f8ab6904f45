"""What is made of the head of an answer, and by what bytes it is known again."""

import pytest

from nexus.errors import UpstreamError
from nexus.proxy.upstream.response_head import LONGEST_HEAD, AnswerHead, KnownAnswer
from nexus.wire.responses.nature import Label

HEADERS = [(b"Content-Type", b"application/json"), (b"Content-Length", b"5"), (b"X-Custom", b"1")]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nX-Custom: 1\r\n\r\n"
WIRE = HEAD % 5 + b"hello"


def learnt(wire=WIRE, headers=HEADERS):
    known = KnownAnswer()
    known.learn(wire, AnswerHead(200, headers))
    return known


def test_nothing_is_known_at_first():
    assert KnownAnswer().whole(WIRE) is None


def test_the_last_head_is_known_again_with_any_length():
    head, body = learnt().whole(HEAD % 11 + b"hello again")

    assert (head.status, head.headers, body) == (200, [HEADERS[0], HEADERS[2]], b"hello again")


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(WIRE.replace(b"200", b"503"), id="another status"),
        pytest.param(WIRE.replace(b"X-Custom: 1", b"X-Custom: 2"), id="another value"),
        pytest.param(WIRE.replace(b"X-Custom: 1", b"X-Custom: 1\r\nX-More: 1"), id="one more"),
        pytest.param(WIRE.replace(b": 5", b": +5"), id="a signed length"),
        pytest.param(WIRE.replace(b": 5", b": 5 "), id="a length with a space"),
        pytest.param(WIRE.replace(b": 5", b": " + b"0" * 20 + b"5"), id="a very long length"),
        pytest.param(WIRE[:-1], id="not whole"),
        pytest.param(WIRE + b"!", id="something behind it"),
        pytest.param(WIRE[:30], id="half a head"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_anything_else_is_for_the_parser(wire):
    assert learnt().whole(wire) is None


@pytest.mark.parametrize(
    ("wire", "headers"),
    [
        pytest.param(HEAD % 0, [(b"Content-Length", b"0")], id="no body"),
        pytest.param(WIRE, [*HEADERS[:1], HEADERS[2]], id="no length"),
        pytest.param(WIRE.replace(b"X-Custom", b"Content-Length"), [*HEADERS, HEADERS[1]], id="two lengths"),
        pytest.param(WIRE.replace(b"\r\nX-Custom", b"\nX-Custom"), HEADERS, id="a line that ends differently"),
        pytest.param(WIRE.replace(b"X-Custom: 1", b"X-Custom: 1\r\n 2"), HEADERS, id="a folded line"),
        pytest.param(WIRE.replace(b": 1", b": " + b"1" * LONGEST_HEAD), HEADERS, id="a long head"),
        pytest.param(
            WIRE.replace(b"X-Custom", b"X-Request-Id"),
            [*HEADERS[:2], (b"X-Request-Id", b"1")],
            id="the id of one request",
        ),
        pytest.param(
            WIRE.replace(b"X-Custom: 1", b"Transfer-Encoding: chunked"),
            [*HEADERS[:2], (b"Transfer-Encoding", b"chunked")],
            id="two framings",
        ),
    ],
)
def test_what_is_not_plain_is_not_learnt(wire, headers):
    assert learnt(wire, headers).whole(wire) is None


def test_what_does_not_depend_on_the_request_is_made_once():
    head = AnswerHead(200, HEADERS)

    assert head.passed_lines(b"req-1") == b"Content-Type: application/json\r\nX-Custom: 1\r\n"
    assert head.passed_lines(b"req-2") is head.passed_lines(b"req-1")


def test_what_depends_on_the_request_is_made_for_each():
    head = AnswerHead(200, [(b"X-Request-Id", b"req-1")])

    assert [head.passed_lines(own) for own in (b"req-1", b"req-2")] == [b"", b"X-Upstream-Request-Id: req-1\r\n"]


def test_a_head_that_may_not_be_passed_on_is_refused_each_time():
    head = AnswerHead(200, [(b"Transfer-Encoding", b"gzip, chunked")])

    for _ in range(2):
        with pytest.raises(UpstreamError, match="transfer coding"):
            _ = head.label


@pytest.mark.parametrize(
    ("headers", "label"),
    [
        (HEADERS, Label.JSON),
        ([], Label.NONE),
        ([(b"content-type", b"Application/Problem+JSON; charset=utf-8")], Label.JSON),
        ([(b"Content-Type", b"text/event-stream;charset=utf-8")], Label.EVENTS),
        ([(b"Content-Type", b"application/x-ndjson")], Label.LINES),
        ([(b"Content-Type", b"text/html")], Label.PAGE),
        ([(b"Content-Type", b"text/vtt")], Label.TEXT),
        ([(b"Content-Type", b"application/octet-stream")], Label.UNKNOWN),
        ([(b"Content-Type", b"audio/mpeg")], Label.OPAQUE),
        ([*HEADERS, (b"Content-Encoding", b"gzip")], Label.OPAQUE),
        ([*HEADERS, (b"Content-Encoding", b"identity")], Label.JSON),
    ],
)
def test_the_label_is_read_once(headers, label):
    head = AnswerHead(200, headers)

    assert (head.label, head.label) == (label, label)


def test_a_wrong_type_can_be_replaced():
    head = AnswerHead(200, HEADERS).typed(b"text/event-stream")

    assert head.label is Label.EVENTS
    assert head.headers == [*HEADERS[1:], (b"Content-Type", b"text/event-stream")]
