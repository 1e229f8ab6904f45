"""Connections that clients have begun to open are accepted before listening stops."""

import asyncio
import socket
import sys

import pytest

from nexus.app.process.accept_queue import accept_no_new, stop_listening


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


def connect(listening):
    client = socket.socket()
    client.settimeout(0.2)
    return client, client.connect_ex(listening.getsockname())


@pytest.mark.skipif(sys.platform != "linux", reason="the filter is one of Linux")
def test_a_connection_that_was_begun_can_be_accepted_and_no_new_one_begins(listening):
    before, begun = connect(listening)

    accept_no_new(listening.fileno())
    after, refused = connect(listening)
    accepted, _ = listening.accept()
    accepted.sendall(b"hello")

    assert (begun, before.recv(5)) == (0, b"hello")
    assert refused != 0
    with pytest.raises(BlockingIOError):
        listening.accept()
    for sock in (before, after, accepted):
        sock.close()


async def test_a_connection_in_the_accept_queue_is_served_when_listening_stops():
    class Greeting(asyncio.Protocol):
        def connection_made(self, transport):
            transport.write(b"hello")
            transport.close()

    server = await asyncio.get_running_loop().create_server(Greeting, "127.0.0.1", 0, backlog=100)
    address = server.sockets[0].getsockname()
    # In the kernel's queue: the event loop has no turn in between.
    clients = [socket.create_connection(address) for _ in range(50)]

    await stop_listening([server])
    await asyncio.sleep(0.05)
    words = [client.recv(5) for client in clients]

    assert words == [b"hello"] * 50
    for client in clients:
        client.close()
