"""A connection serves its requests in turn, and ends in order; it is cut when its client takes nothing."""

import asyncio
import socket
from types import SimpleNamespace

import pytest
from aiohttp import HttpVersion11

from nexus.proxy.client.connection import ClientConnection
from nexus.proxy.client.descriptors import NO_DESCRIPTOR_REPLY, Room
from nexus.proxy.client.server import ProxyServer
from tests.support.fakes import FakeTransport

STALL_S = 0.2
GET = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


class Handler:
    """Answers each request at once with its path, and says whether another may follow."""

    def __init__(self):
        self.may_follow = True
        self.answered = 0
        self.turns = None
        """A semaphore of which each reply takes one; None: replies are not held up."""
        self.failure = None
        self.abandoned = []

    async def serve(self, client, received):
        message, body, _ = received
        if not body.is_eof():
            await body.read()
        if self.turns is not None:
            await self.turns.acquire()
        if self.failure is not None:
            raise self.failure
        client.write(message.path.encode())
        self.answered += 1
        return self.may_follow and client.may_follow(message)

    def note_abandoned(self, client, abandoned):
        self.abandoned += [received.message.path for received in abandoned]

    def refuse_malformed(self, client, exc, is_head):
        return b"refused %b %b" % (exc.code.encode(), b"HEAD" if is_head else b"")


class FakeDescriptors:
    def __init__(self, room):
        self.room = room

    def room_for(self, descriptor):
        return self.room


@pytest.fixture
async def handler():
    return Handler()


@pytest.fixture
def transport():
    """A transport whose client takes as many bytes as the test says."""
    ours, theirs = socket.socketpair()
    yield FakeTransport({"socket": ours, "peername": ("192.0.2.1", 9)})
    ours.close()
    theirs.close()


@pytest.fixture
async def server(handler):
    server = ProxyServer(headers_s=5, keepalive_s=60, write_stall_s=STALL_S)
    server.handle, server.refuse_malformed = handler.serve, handler.refuse_malformed
    server.note_abandoned = handler.note_abandoned
    return server


@pytest.fixture
async def client(server, transport):
    client = ClientConnection(server)
    client.connection_made(transport)
    yield client
    client.connection_lost(None)
    await asyncio.gather(client.task, return_exceptions=True)


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


def get(*paths):
    return b"".join(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in paths)


async def test_requests_are_served_in_turn(client, transport, handler):
    handler.turns = asyncio.Semaphore(0)
    client.data_received(get(b"/1", b"/2", b"/3"))
    written = []
    for _ in range(3):
        await settle()
        written.append(transport.written)
        handler.turns.release()
    await settle()

    assert [*written, transport.written] == [b"", b"/1", b"/1/2", b"/1/2/3"]
    assert not transport.is_closed


async def test_a_request_that_arrives_in_pieces_is_served_once_its_head_is_complete(client, transport, handler):
    wire = get(b"/1")
    for at in range(len(wire)):
        served_early = handler.answered
        client.data_received(wire[at : at + 1])
        await settle()

    assert (served_early, handler.answered, transport.written) == (0, 1, b"/1")


async def test_reading_pauses_while_too_many_requests_wait(client, transport, handler):
    handler.turns = asyncio.Semaphore(0)
    client.data_received(get(*[b"/"] * 100))
    await settle()
    is_paused = transport.is_reading_paused
    for _ in range(100):
        handler.turns.release()
        await settle()

    assert (is_paused, transport.is_reading_paused, handler.answered) == (True, False, 100)


async def test_the_body_of_one_request_is_not_read_as_the_next(client, transport, handler):
    client.data_received(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n" + get(b"/body")[:20])
    await settle()
    early = transport.written
    client.data_received(b"x" * 20 + get(b"/2"))
    await settle()

    assert (early, transport.written) == (b"", b"/1/2")


async def test_a_client_that_leaves_before_its_requests_are_served_abandons_them(client, handler):
    handler.turns = asyncio.Semaphore(0)
    client.data_received(get(b"/1", b"/2", b"/3"))
    await settle()
    client.connection_lost(None)
    await settle()

    assert (handler.answered, handler.abandoned) == (0, ["/2", "/3"])


async def test_a_client_that_connects_asks_and_leaves_at_once_abandons_its_request(server, transport, handler):
    client = ClientConnection(server)
    client.connection_made(transport)
    client.data_received(get(b"/1"))
    client.connection_lost(None)
    await asyncio.gather(client.task, return_exceptions=True)

    assert (handler.answered, handler.abandoned) == (0, ["/1"])


async def test_requests_after_a_reply_that_announced_the_close_are_not_abandoned(client, handler):
    handler.may_follow = False
    client.data_received(get(b"/1", b"/2"))
    await settle()
    client.connection_lost(None)

    assert (handler.answered, handler.abandoned) == (1, [])


async def test_a_crash_of_the_handler_is_an_error_reply_and_the_end(client, transport, handler):
    handler.failure = ZeroDivisionError()
    client.data_received(get(b"/1", b"/2"))
    await settle()
    handler.failure = None
    client.data_received(get(b"/3"))
    await settle()

    assert transport.written == b"refused internal_error "


async def test_a_malformed_request_is_refused_after_the_replies_before_it(client, transport, handler):
    client.data_received(get(b"/1") + b"HEAD /\x01 HTTP/1.1\r\n\r\n" + get(b"/2"))
    await settle()

    assert transport.written == b"/1refused bad_request HEAD"


async def test_nothing_is_served_after_a_reply_that_ends_the_connection(client, transport, handler):
    handler.may_follow = False
    client.data_received(get(b"/1", b"/2"))
    await settle()

    assert transport.written == b"/1"


async def test_a_draining_connection_serves_what_the_client_has_sent(server, client, transport, handler):
    handler.turns = asyncio.Semaphore(0)
    client.data_received(get(b"/1", b"/2"))
    await settle()
    server.end(60.0)
    handler.turns.release()
    handler.turns.release()
    await settle()
    client.data_received(get(b"/3"))
    await settle()

    assert transport.written == b"/1/2"


async def test_a_draining_connection_that_is_idle_closes_after_the_grace_period(server, client, transport):
    server.end(0.0)
    await asyncio.wait_for(client.task, 5)

    assert transport.is_closed


async def test_a_worker_above_its_share_closes_as_many_connections_as_it_was_told(server, transport, handler):
    server.to_shed = 1
    clients = [ClientConnection(server) for _ in range(2)]

    message = SimpleNamespace(should_close=False, upgrade=False, version=HttpVersion11)
    may_follow = [[client.may_follow(message) for _ in range(2)] for client in clients]

    assert may_follow == [[False, False], [True, True]]


async def test_a_connection_with_few_descriptors_left_carries_one_request(server, transport, handler):
    server.descriptors = FakeDescriptors(Room.LITTLE)
    client = ClientConnection(server)
    client.connection_made(transport)
    client.data_received(get(b"/1"))
    await settle()
    client.data_received(get(b"/2"))
    await settle()
    written = transport.written
    client.connection_lost(None)

    assert (client.is_surplus, written) == (True, b"/1")


async def test_a_connection_without_a_descriptor_is_turned_away(server, transport, monkeypatch):
    replaced = []
    monkeypatch.setattr(transport, "set_protocol", replaced.append, raising=False)
    server.descriptors = FakeDescriptors(Room.NONE)
    transport.get_extra_info("socket").setblocking(False)
    client = ClientConnection(server)
    client.connection_made(transport)

    assert (transport.written, transport.is_closed, len(replaced)) == (NO_DESCRIPTOR_REPLY, True, 1)
    assert client not in server.connections


async def test_a_client_that_leaves_cancels_the_request(client, transport, handler):
    handler.turns = asyncio.Semaphore(0)
    client.data_received(get(b"/1"))
    await settle()
    client.connection_lost(None)
    await asyncio.gather(client.task, return_exceptions=True)

    assert (client.task.cancelled(), transport.written) == (True, b"")


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


async def test_an_idle_connection_whose_client_has_taken_all_is_not_cut(client, transport, handler):
    await answer(client, transport, handler, unsent=0)
    await asyncio.sleep(1.5 * STALL_S)

    assert not transport.is_closed


async def test_a_closed_connection_whose_client_takes_nothing_is_cut(client, transport, handler):
    client.close()
    transport.unsent = 10
    before = transport.is_closed, transport.is_aborted
    await asyncio.sleep(1.5 * STALL_S)

    assert (before, transport.is_aborted) == ((True, False), True)


async def test_a_connection_whose_client_takes_some_is_not_cut(client, transport, handler):
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
