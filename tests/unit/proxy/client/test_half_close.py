"""Bytes are sent ahead only where the reply cannot have others, and never too many of them."""

import asyncio

import pytest

from nexus.proxy.client import half_close
from nexus.proxy.client.half_close import MAX_ZEROS, HalfClosed, NextBytes


class Sock:
    error = 0

    def setsockopt(self, *option):
        raise OSError

    def getsockopt(self, *option):
        return self.error


@pytest.fixture
def sock():
    return Sock()


@pytest.fixture
async def begin(sock, monkeypatch):
    monkeypatch.setattr(half_close, "FIRST_PAUSE_S", 0.0)
    begun = []

    def begin(expected):
        written, left = [], []
        half_closed = HalfClosed(
            asyncio.get_running_loop(),
            sock,
            next_is=lambda: expected,
            write=written.append,
            leave=lambda: left.append(True),
        )
        begun.append(half_closed)
        return half_closed, written, left

    yield begin
    for half_closed in begun:
        half_closed.stop()


async def passing():
    for _ in range(50):
        await asyncio.sleep(0)


ANSWER = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize("turns", [0, 4, 50])
async def test_the_head_is_complete_and_unchanged(begin, turns):
    half_closed, written, _ = begin(NextBytes.HEAD)
    for _ in range(turns):
        await asyncio.sleep(0)

    written.append(half_closed.rest_of(ANSWER))

    assert b"".join(written) == ANSWER
    assert len(written) > 1
    assert half_closed.rest_of(ANSWER) == ANSWER


async def test_the_size_of_a_chunk_begins_with_few_zeros(begin):
    _, written, _ = begin(NextBytes.CHUNK)

    await passing()

    assert b"".join(written) == b"0" * MAX_ZEROS


async def test_nothing_is_sent_ahead_where_the_next_bytes_are_unknown(begin):
    _, written, _ = begin(NextBytes.UNKNOWN)

    await passing()

    assert written == []


async def test_a_reset_is_noticed_once(begin, sock):
    _, _, left = begin(NextBytes.HEAD)

    sock.error = 32
    await passing()

    assert left == [True]
