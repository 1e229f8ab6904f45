"""What a client has begun to open is accepted before listening ends; nothing new is begun meanwhile."""

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
def test_a_connection_that_was_begun_can_be_accepted_and_no_other_begins(listening):
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


async def test_who_waits_to_be_accepted_when_listening_ends_is_served():
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
