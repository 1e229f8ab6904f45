"""Unsolicited bytes of a backend reach no client, and suspend the reuse of its connections."""

import asyncio
import socket
import ssl
from time import monotonic

import pytest
import structlog
import trustme

from nexus.dialing import names
from nexus.dialing.age import MAX_AGE_S
from nexus.dialing.dial import Address
from nexus.dialing.lookups import Resolution
from nexus.proxy.socket_state import SocketState
from nexus.proxy.upstream import pool as pools
from nexus.proxy.upstream.pool import NO_REUSE_S, Pool
from nexus.proxy.write_batch import WriteBatch
from nexus.testing.waiting import eventually
from tests.support.scripted import ReadRequest, ScriptedBackend, Send, Wait

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
OTHER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother"
NOTICE = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"


class Peer:
    """The backend's end of each connection, played by the test itself without an event loop."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ends = []

    def accept(self):
        end, _ = self.listener.accept()
        end.settimeout(2)
        self.ends.append(end)
        return end

    def close(self):
        for end in (self.listener, *self.ends):
            end.close()


@pytest.fixture
def peer():
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
async def batch():
    return WriteBatch(asyncio.get_running_loop())


@pytest.fixture
async def pool(peer, batch):
    address = Address("127.0.0.1", peer.port)
    pool = Pool(address, backend="gpu-1", connect_timeout_s=1.0, keepalive_s=5.0, batch=batch)
    opened, open_one = [], pool.open

    async def open_and_note():
        opened.append(await open_one())
        return opened[-1]

    pool.open = open_and_note
    yield pool
    for connection in opened:
        connection.abandon()
    peer.close()
    await eventually(lambda: pool.counts.open == 0)


@pytest.fixture
def idle(pool, peer, make_sink):
    """Return a connection that has carried one exchange and is idle, and the backend's end of it."""

    async def make():
        connection, sink = await pool.open(), make_sink()
        end = peer.accept()
        connection.send(REQUEST, b"{}", sink)
        end.recv(1000)
        end.sendall(HELLO)
        await eventually(lambda: sink.end is not None)
        pool.give_back(connection, may_reuse=True)
        return connection, end

    return make


async def test_unread_bytes_are_not_the_response_to_the_next_request(idle, pool, make_sink):
    _, end = await idle()
    sink = make_sink()

    end.sendall(OTHER)
    pool.take_idle().send(REQUEST, b"{}", sink)
    await eventually(lambda: pool.counts.open == 0)

    assert (sink.calls, sink.end) == (["failed"], "stale")
    assert end.recv(1000) == b""


@pytest.mark.parametrize("leads_to", ["127.0.0.1", "127.0.0.2"])
async def test_a_connection_is_used_again_while_the_name_leads_to_where_it_goes(peer, make_sink, monkeypatch, leads_to):
    addresses = ["127.0.0.1"]

    async def look_up(host, port, *, asks_system=True):
        infos = ((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (each, port)) for each in addresses)
        return Resolution(tuple(infos), 0.0)

    monkeypatch.setattr(names, "look_up", look_up)
    monkeypatch.setattr(names, "MIN_TTL_S", 0.02)
    pool = Pool(Address("gpu.test", peer.port), connect_timeout_s=1.0, keepalive_s=60.0)
    connection, sink = await pool.open(), make_sink()
    end = peer.accept()
    connection.send(REQUEST, b"{}", sink)
    end.sendall(HELLO)
    await eventually(lambda: sink.end is not None)
    pool.give_back(connection, may_reuse=True)

    addresses[:] = [leads_to]
    await eventually(lambda: names.in_use(("gpu.test", peer.port)).hosts == {names.packed(leads_to)})
    taken = pool.take_idle()
    names._names.clear()

    assert taken is (connection if leads_to == "127.0.0.1" else None)
    assert connection.is_closed is (taken is None)
    connection.abandon()


async def test_bytes_that_arrive_while_a_request_is_held_are_not_its_response(idle, pool, batch, make_sink):
    _, end = await idle()
    sink = make_sink()
    batch.expect()
    batch.expect()

    pool.take_idle().send(REQUEST, b"{}", sink)
    end.sendall(OTHER)
    await eventually(lambda: sink.end is not None)

    assert (sink.calls, sink.end) == (["failed"], "stale")


async def test_bytes_that_arrive_before_a_long_request_are_not_its_response(idle, pool, make_sink):
    _, end = await idle()
    sink = make_sink()

    end.sendall(OTHER)
    pool.take_idle().send(REQUEST, b"x" * 1_000_000, sink)

    assert (sink.calls, sink.end) == (["failed"], "stale")


async def test_a_connection_that_ended_unseen_is_not_written_to(idle, pool, make_sink):
    _, end = await idle()
    sink = make_sink()

    end.close()
    pool.take_idle().send(REQUEST, b"{}", sink)
    await eventually(lambda: pool.counts.open == 0)

    assert sink.end == "stale"
    assert pool.counts.no_reuse_until == 0.0


async def test_two_responses_in_one_read_go_to_neither_request(idle, pool, make_sink):
    _, end = await idle()
    sink = make_sink()
    pool.take_idle().send(REQUEST, b"{}", sink)
    end.recv(1000)

    end.sendall(OTHER + HELLO)
    await eventually(lambda: sink.end is not None)

    assert (sink.calls, sink.end) == (["failed"], "protocol")


async def test_bytes_before_the_request_has_arrived_are_no_response():
    # On a Unix socket, what the other end has not read counts as not received.
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    transport.write(b"0123456789")

    found = SocketState(transport).is_unacknowledged(10)
    theirs.recv(1000)
    after = SocketState(transport).is_unacknowledged(10)
    transport.abort()
    theirs.close()

    assert (found, after) == (True, False)


@pytest.mark.parametrize("is_reused", [True, False])
async def test_bytes_before_the_request_has_left_are_refused(connection, transport, make_sink, is_reused):
    first, sink = make_sink(), make_sink()
    if is_reused:
        connection.send(REQUEST, b"{}", first)
        connection.data_received(HELLO)
        connection.rest(0.0)
    connection.send(REQUEST, b"{}", sink)

    transport.unsent = len(REQUEST) + 2
    connection.data_received(OTHER)

    # On its first request, the answer can be no other client's.
    assert sink.end == ("reset" if is_reused else "framed")


async def test_a_fresh_connection_that_speaks_first_is_refused(pool, peer, make_sink):
    connection, sink = await pool.open(), make_sink()
    peer.accept().sendall(b"220 ready\r\n")

    connection.send(REQUEST, b"{}", sink)

    assert (sink.calls, sink.end) == (["failed"], "reset")


async def test_a_connection_that_was_lost_before_the_request_says_so(pool, peer, make_sink):
    connection, sink = await pool.open(), make_sink()
    peer.accept().close()
    await eventually(lambda: connection.is_closed)

    connection.send(REQUEST, b"{}", sink)

    assert sink.end == "reset"


async def test_an_early_refusal_of_a_long_request_passes(idle, pool, make_sink):
    _, end = await idle()
    sink = make_sink()
    pool.take_idle().send(REQUEST, b"x" * 20_000_000, sink)

    end.recv(1000)
    end.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    await eventually(lambda: sink.end is not None)

    assert (sink.status, sink.end, pool.counts.no_reuse_until) == (413, "framed", 0.0)


# what it costs the backend


async def test_after_unsolicited_bytes_no_connection_is_reused(idle, pool, peer, make_sink):
    _, end = await idle()
    quiet, _ = await idle()
    with structlog.testing.capture_logs() as log:
        end.sendall(OTHER)
        await eventually(lambda: pool.counts.no_reuse_until)

    connection, sink = await pool.open(), make_sink()
    connection.send(REQUEST, b"{}", sink)
    peer.accept().sendall(HELLO)
    await eventually(lambda: sink.end is not None)
    pool.give_back(connection, may_reuse=True)

    assert (sink.body, pool.take_idle(), connection.is_closed, quiet.is_closed) == (b"hello", None, True, True)
    assert log == [{"event": "unasked_answer", "backend": "gpu-1", "no_reuse_s": NO_REUSE_S, "log_level": "warning"}]


async def test_repeated_unsolicited_bytes_are_logged_once(pool):
    with structlog.testing.capture_logs() as log:
        for _ in range(10):
            pool.on_unsolicited()

    assert len(log) == 1


async def test_after_a_while_connections_are_reused_again(idle, pool, monkeypatch):
    pool.on_unsolicited()
    later = pool.counts.no_reuse_until + 1
    monkeypatch.setattr(pools, "monotonic", lambda: later)

    connection, _ = await idle()

    assert pool.take_idle() is connection


async def test_a_surplus_response_counts_as_unsolicited(pool, peer, make_sink):
    connection, sink = await pool.open(), make_sink()
    connection.send(REQUEST, b"{}", sink)

    peer.accept().sendall(HELLO + OTHER)
    await eventually(lambda: sink.end is not None)

    assert (sink.body, sink.end) == (b"hello", "framed")
    assert pool.counts.no_reuse_until > 0


async def test_a_408_on_an_idle_connection_is_no_fault(idle, pool):
    connection, end = await idle()

    end.sendall(NOTICE)
    await eventually(lambda: connection.is_closed)

    assert pool.counts.no_reuse_until == 0.0


async def test_bytes_after_the_client_has_left_are_no_fault(idle, pool, make_sink):
    connection, _ = await idle()
    pool.take_idle().send(REQUEST, b"{}", make_sink())

    connection.abandon()
    connection.data_received(HELLO)
    await eventually(lambda: pool.counts.open == 0)

    assert pool.counts.no_reuse_until == 0.0


# under TLS


@pytest.fixture
def contexts():
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def ask(connection, sink):
    connection.send(REQUEST, b"{}", sink)
    await eventually(lambda: sink.end is not None)
    return sink


@pytest.mark.parametrize(("surplus", "is_trusted"), [(b"", True), (OTHER, False)])
async def test_under_tls_a_connection_is_reused_until_unsolicited_bytes_arrive(
    contexts, make_sink, surplus, is_trusted
):
    server, client = contexts
    script = [ReadRequest(), Send(HELLO), Wait(0.02), Send(surplus), ReadRequest(), Send(HELLO)]
    async with ScriptedBackend(script, tls=server) as backend:
        pool = Pool(Address("127.0.0.1", backend.port, client), connect_timeout_s=1.0, keepalive_s=5.0)
        first = await pool.open()
        await ask(first, make_sink())
        pool.give_back(first, may_reuse=True)
        await asyncio.sleep(0.1)
        second = pool.take_idle()
        answer = await ask(second or await pool.open(), make_sink())
        pool.close()

    assert (answer.body, second is first) == (b"hello", is_trusted)
    assert (pool.counts.no_reuse_until == 0.0) is is_trusted


# age


@pytest.fixture
def aging(idle, pool):
    """A connection that is idle and too old from *age_s* on."""

    async def make(age_s):
        pool._max_age_s = age_s / 0.9
        return (await idle())[0]

    return make


async def test_a_connection_ends_while_idle_when_it_is_too_old(aging, pool):
    connection = await aging(0.1)
    is_kept = not connection.is_closed

    await eventually(lambda: pool.counts.open == 0)

    assert is_kept
    assert pool.take_idle() is None


async def test_a_connection_that_is_too_old_after_its_response_is_not_kept(aging, pool):
    connection = await aging(0.1)
    busy = pool.take_idle()
    await asyncio.sleep(0.15)
    was_open = not busy.is_closed

    pool.give_back(busy, may_reuse=True)

    assert was_open
    assert busy is connection
    assert busy.is_closed
    assert pool.take_idle() is None


async def test_a_younger_connection_is_kept_longer(aging, pool):
    older, younger = await aging(0.1), await aging(60.0)

    await eventually(lambda: older.is_closed)

    assert pool.take_idle() is younger


async def test_connections_expire_at_different_times(pool, peer):
    opened = [await pool.open() for _ in range(10)]
    ages = [connection.expires_at - monotonic() for connection in opened]

    assert len({round(age, 3) for age in ages}) > 5
    assert 0.9 * MAX_AGE_S - 1 < min(ages) <= max(ages) <= MAX_AGE_S
