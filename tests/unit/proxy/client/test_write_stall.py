"""A client that takes nothing of what was written for it is given up in time; one that takes some is not."""

import asyncio
from types import SimpleNamespace

import pytest

from nexus.proxy.client import write_stall
from nexus.proxy.client.write_stall import WriteStall

LIMIT_S = 0.2


@pytest.fixture
def written():
    """What was written: 1000 bytes, of which 100 have not left."""
    return SimpleNamespace(written=1000, unsent=100)


@pytest.fixture
def given_up():
    """How often the client was given up, as a list."""
    return []


@pytest.fixture
async def stall(written, given_up):
    loop = asyncio.get_running_loop()
    stall = WriteStall(loop, written, -1, limit_s=lambda: LIMIT_S, give_up=lambda: given_up.append(1))
    yield stall
    stall.stop()


async def test_a_client_that_takes_nothing_is_given_up_once(given_up, stall):
    stall.watch()
    stall.watch()
    await asyncio.sleep(0.75 * LIMIT_S)
    before = list(given_up)
    await asyncio.sleep(1.5 * LIMIT_S)

    assert (before, given_up) == ([], [1])


async def test_a_client_that_takes_some_is_not_given_up(given_up, stall, written):
    stall.watch()
    for _ in range(8):
        await asyncio.sleep(LIMIT_S / 2)
        written.unsent -= 1

    assert not given_up


async def test_bytes_written_meanwhile_do_not_count_as_taken(given_up, stall, written):
    stall.watch()
    for _ in range(8):
        await asyncio.sleep(LIMIT_S / 4)
        written.written += 10
        written.unsent += 10

    assert given_up == [1]


async def test_a_client_that_has_taken_all_is_left_alone_until_something_is_unsent_again(given_up, stall, written):
    written.unsent = 0
    stall.watch()
    await asyncio.sleep(2 * LIMIT_S)
    before = list(given_up)
    written.unsent = 1
    stall.watch()
    await asyncio.sleep(2 * LIMIT_S)

    assert (before, given_up) == ([], [1])


async def test_a_lowered_limit_applies_to_a_watched_client(given_up, written, monkeypatch):
    monkeypatch.setattr(write_stall, "MAX_PAUSE_S", LIMIT_S / 4)
    limits = [60.0]
    loop = asyncio.get_running_loop()
    stall = WriteStall(loop, written, -1, limit_s=lambda: limits[-1], give_up=lambda: given_up.append(1))
    stall.watch()
    await asyncio.sleep(0.01)
    limits.append(LIMIT_S)
    before = list(given_up)
    await asyncio.sleep(2 * LIMIT_S)
    stall.stop()

    assert (before, given_up) == ([], [1])


async def test_bytes_that_leave_the_kernel_count_as_taken(given_up, stall, monkeypatch):
    in_kernel = [5000]
    monkeypatch.setattr(write_stall, "unacknowledged_bytes", lambda _descriptor: in_kernel[0])
    stall.watch()
    for _ in range(8):
        await asyncio.sleep(LIMIT_S / 2)
        in_kernel[0] -= 100

    assert not given_up


async def test_a_stopped_watch_gives_up_nothing(given_up, stall):
    stall.watch()
    await asyncio.sleep(LIMIT_S / 2)
    stall.stop()
    await asyncio.sleep(LIMIT_S)

    assert not given_up
