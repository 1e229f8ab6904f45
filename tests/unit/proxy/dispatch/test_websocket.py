"""A WebSocket opens for requests that ask for one, and no bytes from the viewer break it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from nexus.errors import RequestError
from nexus.proxy.dispatch import websocket
from nexus.proxy.dispatch.websocket import MAX_UNSENT_BYTES, Socket, accept, text_frame
from tests.support.fakes import FakeTransport

ASKS = {
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture
def line():
    return FakeTransport()


@pytest.fixture
async def socket(line):
    return Socket(line)


@pytest.fixture
def client():
    return Connection(ConnectionType.CLIENT)


def events(client, line):
    client.receive_data(line.written)
    return list(client.events())


def test_the_response_proves_that_the_key_was_read():
    # The example of RFC 6455, 1.3.
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in accept(ASKS)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"Upgrade": "h2c"}, "upgrade_required"),
        ({"Connection": "close"}, "upgrade_required"),
        ({"Sec-WebSocket-Version": "8"}, "upgrade_required"),
        ({"Sec-WebSocket-Key": "short"}, "bad_request"),
        ({"Sec-WebSocket-Key": "ümläut"}, "bad_request"),
        ({"Sec-WebSocket-Key": ""}, "bad_request"),
    ],
)
def test_a_request_without_an_upgrade_is_refused(changed, code):
    with pytest.raises(RequestError) as refusal:
        accept(ASKS | changed)

    assert refusal.value.code == code


async def test_a_text_frame_arrives_whole(socket, line, client):
    assert socket.send(text_frame("größer" * 20_000))

    text = "".join(event.data for event in events(client, line))
    assert text == "größer" * 20_000


async def test_a_viewer_that_is_too_far_behind_gets_no_frames(socket, line):
    line.unsent = MAX_UNSENT_BYTES + 1

    assert not socket.send(text_frame("more"))
    assert line.written == b""


async def test_a_ping_is_answered(socket, line, client):
    socket.receive(client.send(Ping(b"still there?")))

    assert events(client, line) == [Pong(bytearray(b"still there?"))]


async def test_a_viewer_that_is_too_far_behind_gets_no_pongs(socket, line, client):
    line.unsent = MAX_UNSENT_BYTES + 1

    socket.receive(client.send(Ping(b"still there?")) * 1000)

    assert (line.written, line.is_aborted) == (b"", False)


async def test_a_viewer_that_is_too_far_behind_is_cut_at_the_end(socket, line):
    line.unsent = MAX_UNSENT_BYTES + 1

    socket.close()

    assert (line.written, line.is_aborted) == (b"", True)


async def test_messages_are_ignored(socket, line, client):
    socket.receive(client.send(TextMessage("hello")) + client.send(BytesMessage(b"\0" * 100_000)))

    assert line.written == b""


async def test_a_close_frame_is_answered_and_ends_the_socket(socket, line, client):
    socket.receive(client.send(CloseConnection(1000)))

    await socket.over()
    socket.close()
    assert [type(event) for event in events(client, line)] == [CloseConnection]
    assert not socket.send(text_frame("late"))


async def test_malformed_frames_end_the_socket_with_a_protocol_error(socket, line, client):
    socket.receive(b"GET / HTTP/1.1\r\n\r\n")

    await socket.over()
    (event,) = events(client, line)
    assert event.code == 1002


async def test_a_viewer_that_has_vanished_is_noticed(line, client, monkeypatch):
    monkeypatch.setattr(websocket, "PING_S", 0.01)

    await Socket(line).over()

    assert line.is_aborted
    assert [type(event) for event in events(client, line)][:1] == [Ping]


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_no_bytes_break_the_socket(chunks):
    line = FakeTransport()
    socket = Socket(line)

    for chunk in chunks:
        socket.receive(chunk)
