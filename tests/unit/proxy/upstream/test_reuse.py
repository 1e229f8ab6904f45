"""A connection is reused while both ends allow it, and closed otherwise."""

import asyncio

import pytest

from nexus.dialing.dial import Address
from nexus.errors import UpstreamError
from nexus.proxy.upstream import pool as pools
from nexus.proxy.upstream.pool import Pool
from nexus.testing.waiting import eventually
from tests.support.scripted import Close, ReadHead, ReadRequest, Reset, ScriptedBackend, Send, Stall

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"


class Waiter:
    """Asks once over a connection and waits for the end."""

    def __init__(self, make_sink):
        self.make_sink = make_sink

    async def ask(self, connection, body=b"{}"):
        sink = self.make_sink()
        ended = asyncio.get_running_loop().create_future()
        on_end, on_failed = sink.on_end, sink.on_failed
        sink.on_end = lambda *, is_framed: (on_end(is_framed=is_framed), ended.set_result(None))
        sink.on_failed = lambda fault, message: (on_failed(fault, message), ended.set_result(None))
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.send(head, body, sink)
        await asyncio.wait_for(ended, 5)
        return sink


@pytest.fixture
def ask(make_sink):
    return Waiter(make_sink).ask


@pytest.fixture
async def pool_of():
    pools = []

    def make(backend, keepalive_s=5.0):
        pool = Pool(Address("127.0.0.1", backend.port), connect_timeout_s=1.0, keepalive_s=keepalive_s)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()


TWICE = [ReadRequest(), Send(HELLO), ReadRequest(), Send(HELLO)]


async def test_a_connection_is_kept_for_the_next_request(pool_of, ask):
    async with ScriptedBackend(TWICE) as backend:
        pool = pool_of(backend)
        first = await pool.open()
        await ask(first)
        pool.give_back(first, may_reuse=True)
        second = pool.take_idle()
        answer = await ask(second)

    assert second is first
    assert (answer.body, pool.counts.opened, pool.counts.reused) == (b"hello", 1, 1)
    assert pool.take_idle() is None


async def test_the_newest_is_reused_first(pool_of, ask):
    async with ScriptedBackend(TWICE) as backend:
        pool = pool_of(backend)
        connections = [await pool.open() for _ in range(2)]
        for connection in connections:
            await ask(connection)
            pool.give_back(connection, may_reuse=True)

        assert [pool.take_idle(), pool.take_idle()] == connections[::-1]


async def test_a_connection_that_the_backend_has_closed_is_not_reused(pool_of, ask):
    async with ScriptedBackend([ReadRequest(), Send(HELLO), Close()]) as backend:
        pool = pool_of(backend)
        connection = await pool.open()
        await ask(connection)
        pool.give_back(connection, may_reuse=True)
        await backend.ended()
        await asyncio.sleep(0.02)

        assert pool.take_idle() is None


async def test_a_connection_that_was_idle_too_long_is_closed(pool_of, ask):
    async with ScriptedBackend(TWICE) as backend:
        pool = pool_of(backend, keepalive_s=0.02)
        connection = await pool.open()
        await ask(connection)
        pool.give_back(connection, may_reuse=True)
        await asyncio.sleep(0.06)
        await backend.ended()

        assert connection.is_closed
        assert pool.take_idle() is None


async def test_a_connection_that_was_idle_too_long_is_not_reused_even_before_it_is_closed(pool_of, ask):
    async with ScriptedBackend(TWICE) as backend:
        pool = pool_of(backend)
        connection = await pool.open()
        await ask(connection)
        pool.give_back(connection, may_reuse=True)
        connection.idle_since -= 6

        assert pool.take_idle() is None
        assert connection.is_closed


async def test_a_connection_that_may_not_be_reused_is_closed(pool_of, ask):
    async with ScriptedBackend(TWICE) as backend:
        pool = pool_of(backend)
        connection = await pool.open()
        await ask(connection)

        pool.give_back(connection, may_reuse=False)
        await backend.ended()

        assert pool.take_idle() is None
        assert backend.attempts[0].cause == "client_left"


async def test_the_number_of_idle_connections_is_limited(pool_of, ask, monkeypatch):
    monkeypatch.setattr(pools, "MAX_IDLE", 1)
    async with ScriptedBackend(TWICE) as backend:
        pool = pool_of(backend)
        connections = [await pool.open() for _ in range(2)]
        for connection in connections:
            await ask(connection)
            pool.give_back(connection, may_reuse=True)

        assert [connection.is_closed for connection in connections] == [False, True]


async def test_a_closed_pool_keeps_no_connection_that_is_given_back(pool_of, ask):
    async with ScriptedBackend(TWICE) as backend:
        pool = pool_of(backend)
        connection = await pool.open()
        await ask(connection)

        pool.close()
        pool.give_back(connection, may_reuse=True)
        await backend.ended()

        assert connection.is_closed


async def test_a_reused_connection_whose_client_had_paused_it_still_answers(pool_of, ask):
    async with ScriptedBackend(TWICE) as backend:
        pool = pool_of(backend)
        connection = await pool.open()
        await ask(connection)
        connection.pause_reading()
        pool.give_back(connection, may_reuse=True)

        answer = await ask(pool.take_idle())

    assert answer.body == b"hello"


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ([ReadRequest(), Close()], "reset"),
        ([ReadRequest(), Reset()], "reset"),
        ([ReadRequest(), Send(b"\x00garbage"), Stall()], "protocol"),
        ([ReadRequest(), Send(OK + b"Content-Length: 9\r\n\r\nhe"), Reset()], "truncated"),
    ],
)
async def test_each_way_of_breaking_off_has_its_fault(pool_of, ask, script, fault):
    async with ScriptedBackend(script) as backend:
        answer = await ask(await pool_of(backend).open())

    assert answer.end == fault


async def test_an_early_response_stops_the_upload(pool_of, ask):
    size = 20_000_000
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
    async with ScriptedBackend([ReadHead(), Send(refusal), Stall()]) as backend:
        pool = pool_of(backend)
        connection = await pool.open()
        answer = await ask(connection, b"x" * size)
        pool.give_back(connection, may_reuse=True)
        await backend.ended()

    assert answer.status == 413
    assert len(backend.attempts[0].received) < size


async def test_a_failed_connect_says_why(pool_of):
    async with ScriptedBackend([]) as backend:
        port = backend.port
    pool = Pool(Address("127.0.0.1", port), connect_timeout_s=1.0, keepalive_s=1.0)

    with pytest.raises(UpstreamError) as failed:
        await pool.open()

    assert (failed.value.fault.value, pool.counts.opened, pool.counts.open) == ("refused", 0, 0)


async def test_open_connections_are_counted_until_they_are_closed(pool_of, ask):
    async with ScriptedBackend(TWICE) as backend:
        pool = pool_of(backend)
        busy, kept = await pool.open(), await pool.open()
        await ask(kept)
        pool.give_back(kept, may_reuse=True)
        assert (pool.counts.opened, pool.counts.open) == (2, 2)

        busy.abandon()
        pool.close()

        await eventually(lambda: pool.counts.open == 0)
        assert pool.counts.opened == 2
