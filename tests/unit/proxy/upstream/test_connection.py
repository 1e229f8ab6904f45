"""A connection carries one response at a time, and another request only after a clean one."""

import time

import pytest

from nexus.proxy.upstream import connection as upstream

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"


@pytest.fixture
def asked(connection, sink):
    """The connection, with a request under way."""
    connection.send(REQUEST, b"{}", sink)
    return connection


def receive(connection, *chunks, then=None):
    for chunk in chunks:
        if not connection.is_closed:
            connection.data_received(chunk)
    if then == "eof" and not connection.is_closed:
        connection.connection_lost(None)
    if then == "reset" and not connection.is_closed:
        connection.connection_lost(ConnectionResetError())


def reuse(connection, sink):
    connection.rest(0.0)
    connection.send(REQUEST, b"{}", sink)


# what is sent


@pytest.mark.parametrize("size", [2, 100_000])
def test_a_request_is_written_unchanged(connection, transport, sink, size):
    connection.send(REQUEST, b"x" * size, sink)

    assert transport.written == REQUEST + b"x" * size


# what comes back


def test_a_response_is_passed_on_in_order(asked, sink):
    receive(asked, HELLO)

    assert sink.calls == ["head", "body", "end"]
    assert (sink.status, sink.headers, sink.body, sink.end) == (200, [(b"Content-Length", b"5")], b"hello", "framed")


def test_many_small_chunks_in_one_read_are_passed_on_together(asked, sink):
    receive(asked, OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 100 + b"0\r\n\r\n")

    assert (sink.calls, sink.body) == (["head", "body", "end"], b"a" * 100)


def test_a_response_without_length_ends_with_its_connection(asked, sink):
    receive(asked, OK + b"\r\nhello", then="eof")

    assert (sink.body, sink.end) == (b"hello", "unframed")


def test_a_response_without_length_does_not_end_with_a_reset(asked, sink):
    receive(asked, OK + b"\r\nhello", then="reset")

    assert sink.end == "truncated"


def test_informational_responses_are_skipped(asked, sink):
    receive(asked, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", HELLO)

    assert (sink.status, sink.headers, sink.end) == (200, [(b"Content-Length", b"5")], "framed")


def test_trailers_are_not_headers(asked, sink):
    receive(asked, OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Secret: 1\r\n\r\n")

    assert (sink.headers, sink.end) == ([(b"Transfer-Encoding", b"chunked")], "framed")


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9\r\n", id="another protocol"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x46", id="tls"),
        pytest.param(OK + b"X: a\x01b\r\n\r\n", id="control character"),
        pytest.param(OK + b"X y: z\r\n\r\n", id="space in a name"),
        pytest.param(OK + b"X: a\r\n folded\r\n\r\n", id="folded header"),
        pytest.param(OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", id="two lengths"),
        pytest.param(OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n", id="length twice"),
        pytest.param(OK + b"Content-Length: -1\r\n\r\n", id="negative length"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", id="bad chunk"),
        pytest.param(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", id="upgrade"),
        pytest.param(b"HTTP/1.1 102 Processing\r\n\r\n" * 17, id="informational flood"),
        pytest.param(OK + b"X: y\r\n" * 200 + b"\r\n", id="too many headers"),
        pytest.param(OK + b"X: " + b"y" * 9000 + b"\r\n\r\n", id="too long header"),
        pytest.param(OK + (b"X: " + b"y" * 8000 + b"\r\n") * 9 + b"\r\n", id="too long headers"),
    ],
)
def test_a_malformed_response_is_a_protocol_fault(asked, transport, sink, wire):
    receive(asked, wire, then="eof")

    assert sink.end == "protocol"
    assert transport.is_aborted


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n", "not an HTTP/1.1 response"),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 17, "informational"),
        (OK + b"X: " + b"y" * 9000 + b"\r\n\r\n", "too long headers"),
    ],
)
def test_a_protocol_fault_says_what_is_wrong(asked, sink, wire, why):
    receive(asked, wire)

    assert why in sink.why


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(OK + b"X: ", id="header"),
        pytest.param(b"HTTP/1.1 200 ", id="reason"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", id="trailer"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n1;x=", id="chunk extension"),
    ],
)
def test_endless_heads_and_trailers_are_cut(asked, sink, begin):
    receive(asked, begin, *[b"y" * 10_000] * 20)

    assert sink.end == "protocol"


def test_a_long_response_in_small_packets_is_no_flood(asked, sink):
    receive(asked, OK + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\n", b"a", b"\r\n"] * 50_000, b"0\r\n\r\n")

    assert (sink.end, len(sink.body)) == ("framed", 50_000)


def test_a_status_below_100_does_not_slip_its_body_into_the_next_response(asked, sink):
    receive(asked, b"HTTP/1.1 050 X\r\nContent-Length: 4\r\n\r\nevil" + HELLO)

    assert (sink.status, sink.body) == (50, b"evil")


@pytest.mark.parametrize(
    ("wire", "then", "fault"),
    [
        (b"", "eof", "reset"),
        (b"", "reset", "reset"),
        (b"HTTP/1.1 200", "eof", "reset"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "eof", "reset"),
        (OK + b"Content-Length: 5\r\n\r\nhel", "eof", "truncated"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", "reset", "truncated"),
    ],
)
def test_a_response_that_is_cut_fails_by_how_far_it_came(asked, sink, wire, then, fault):
    receive(asked, wire, then=then) if wire else receive(asked, then=then)

    assert sink.end == fault
    assert sink.calls.count("failed") == 1


def test_a_reused_connection_that_closes_at_once_was_stale(asked, sink, make_sink):
    receive(asked, HELLO)
    second = make_sink()
    reuse(asked, second)

    receive(asked, then="reset")

    assert (sink.end, second.end) == ("framed", "stale")


def test_a_reused_connection_that_closes_later_was_not_stale(asked, make_sink, monkeypatch):
    receive(asked, HELLO)
    second = make_sink()
    reuse(asked, second)

    monkeypatch.setattr(upstream, "monotonic", lambda: time.monotonic() + 2.0)
    receive(asked, then="eof")

    assert second.end == "reset"


def test_a_reused_connection_that_began_a_response_was_not_stale(asked, make_sink):
    receive(asked, HELLO)
    second = make_sink()
    reuse(asked, second)

    receive(asked, b"HTTP", then="eof")

    assert second.end == "reset"


# abandoned requests


def test_an_abandoned_request_gets_nothing_more(asked, transport, sink):
    receive(asked, OK + b"Content-Length: 5\r\n\r\nhe")

    asked.abandon()
    asked.connection_lost(None)

    assert transport.is_aborted
    assert sink.calls == ["head", "body"]


def test_a_request_abandoned_at_the_head_gets_no_body(asked, sink):
    sink.on_head = lambda *_: asked.abandon()

    receive(asked, HELLO)

    assert sink.calls == []


def test_the_loss_of_a_connection_after_the_response_is_no_failure(asked, sink):
    receive(asked, HELLO)

    asked.connection_lost(ConnectionResetError())

    assert sink.end == "framed"


# reuse


def test_a_clean_response_leaves_the_connection_reusable(asked, sink, make_sink):
    receive(asked, HELLO)
    is_reusable = asked.is_reusable
    second = make_sink()
    reuse(asked, second)
    receive(asked, HELLO)

    assert is_reusable
    assert (sink.body, second.body, second.end) == (b"hello", b"hello", "framed")


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", id="close"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", id="http 1.0"),
        pytest.param(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="http 1.0 with chunks"),
        pytest.param(HELLO + b"and more", id="surplus"),
        pytest.param(HELLO + HELLO, id="second answer"),
        pytest.param(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", id="204 with a body"),
        pytest.param(OK + b"Content-Length: 9\r\n\r\nhello", id="unfinished"),
    ],
)
def test_any_other_response_leaves_the_connection_unusable(asked, wire):
    receive(asked, wire)

    assert not asked.is_reusable


def test_a_response_before_the_whole_request_leaves_the_connection_unusable(asked, transport):
    receive(asked, HELLO)
    transport.unsent = 1

    assert not asked.is_reusable


@pytest.mark.parametrize("is_resting", [True, False])
def test_unsolicited_bytes_end_the_connection(asked, transport, sink, is_resting):
    receive(asked, HELLO)
    if is_resting:
        asked.rest(0.0)

    asked.data_received(b"HTTP/1.1 408 Too Slow\r\n\r\n")

    assert transport.is_closed
    assert not asked.is_reusable
    assert sink.body == b"hello"


def test_an_idle_connection_reads_even_if_its_client_had_paused_it(asked, transport):
    asked.pause_reading()
    receive(asked, HELLO)

    asked.rest(0.0)

    assert not transport.is_reading_paused


def test_a_closing_connection_is_neither_paused_nor_resumed(asked, transport):
    transport.close()

    asked.pause_reading()
    is_paused = transport.is_reading_paused
    transport.is_reading_paused = True
    asked.resume_reading()

    assert (is_paused, transport.is_reading_paused) == (False, True)


@pytest.mark.parametrize(("unsent", "is_aborted"), [(0, False), (1, True)])
def test_an_early_response_stops_the_request(asked, transport, unsent, is_aborted):
    transport.unsent = unsent

    asked.close()

    assert (transport.is_closed, transport.is_aborted) == (True, is_aborted)
