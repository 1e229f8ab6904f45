"""A connection is cut when its client takes nothing of what is unsent, whatever it is doing; else it is not."""

import asyncio
import socket

import pytest

from nexus.proxy.client.connection import ClientConnection
from nexus.proxy.client.server import ProxyServer
from tests.support.fakes import FakeTransport

STALL_S = 0.2
GET = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


class Handler:
    """Answers each request at once, and says whether another may follow."""

    def __init__(self):
        self.may_follow = True
        self.answered = 0

    async def serve(self, client, received):
        client.write(b"answer")
        self.answered += 1
        return self.may_follow


@pytest.fixture
async def handler():
    return Handler()


@pytest.fixture
def transport():
    """A transport with a real socket."""
    ours, theirs = socket.socketpair()
    yield FakeTransport({"socket": ours})
    ours.close()
    theirs.close()


@pytest.fixture
async def client(handler, transport):
    server = ProxyServer(headers_s=5, keepalive_s=60, write_stall_s=STALL_S)
    server.handle = handler.serve
    client = ClientConnection(server)
    client.connection_made(transport)
    yield client
    client.connection_lost(None)
    await asyncio.gather(client.task, return_exceptions=True)


async def answer(client, transport, handler, *, unsent):
    transport.unsent = unsent
    client.data_received(GET)
    await asyncio.sleep(0.02)
    assert handler.answered == 1


async def test_an_idle_connection_whose_client_takes_nothing_is_cut(client, transport, handler):
    await answer(client, transport, handler, unsent=10)
    before = transport.is_aborted
    await asyncio.sleep(1.5 * STALL_S)

    assert (before, transport.is_aborted, client.has_stalled) == (False, True, True)


async def test_an_idle_connection_whose_client_has_taken_all_is_not(client, transport, handler):
    await answer(client, transport, handler, unsent=0)
    await asyncio.sleep(1.5 * STALL_S)

    assert not transport.is_closed


async def test_a_closed_connection_whose_client_takes_nothing_is_cut(client, transport, handler):
    client.close()
    transport.unsent = 10
    before = transport.is_closed, transport.is_aborted
    await asyncio.sleep(1.5 * STALL_S)

    assert (before, transport.is_aborted) == ((True, False), True)


async def test_one_whose_client_takes_some_of_it_is_not(client, transport, handler):
    transport.unsent = 1000
    client.write_now(b"x" * 1000)
    client.close()
    for _ in range(8):
        await asyncio.sleep(STALL_S / 2)
        transport.unsent -= 1

    assert not transport.is_aborted


async def test_a_paused_connection_whose_client_takes_nothing_is_cut_while_it_is_answered(client, transport, handler):
    transport.unsent = 10
    client.pause_writing()
    client.data_received(GET)
    await asyncio.sleep(1.5 * STALL_S)

    assert transport.is_aborted
    assert client.has_stalled


async def test_a_longer_limit_holds_for_open_connections_too(client, transport, handler):
    client._server.write_stall_s = 60.0
    await answer(client, transport, handler, unsent=10)
    await asyncio.sleep(1.5 * STALL_S)

    assert not transport.is_aborted
