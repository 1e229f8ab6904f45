"""Writes leave together, and never later than the next turn of the event loop."""

import asyncio

import pytest

from nexus.proxy.write_batch import MAX_BATCHED, MAX_BATCHED_BYTES, BatchedWriter, WriteBatch


@pytest.fixture
async def batch():
    return WriteBatch(asyncio.get_running_loop())


@pytest.fixture
def writers(batch, make_transport):
    return [BatchedWriter(make_transport(), batch) for _ in range(3)]


def sent(writers):
    return [writer._transport.written for writer in writers]


async def test_a_lone_write_does_not_wait(batch, writers):
    batch.expect()

    writers[0].write(b"a")

    assert sent(writers) == [b"a", b"", b""]


async def test_an_unannounced_write_does_not_wait(writers):
    writers[0].write(b"a")

    assert sent(writers) == [b"a", b"", b""]


async def test_the_last_announced_write_sends_all(batch, writers):
    for _ in range(3):
        batch.expect()

    writers[0].write(b"a")
    writers[1].write(b"b")
    before = sent(writers)
    writers[2].write(b"c")

    assert (before, sent(writers)) == ([b"", b"", b""], [b"a", b"b", b"c"])


async def test_a_missing_write_delays_the_others_by_one_turn_at_most(batch, writers):
    for _ in range(3):
        batch.expect()
    writers[0].write(b"a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    left = sent(writers)

    # How many writes are still to come is unknown: the next one does not wait for them.
    writers[1].write(b"b")

    assert (left, sent(writers)) == ([b"a", b"", b""], [b"a", b"b", b""])


async def test_a_full_batch_is_sent(batch, make_transport):
    writers = [BatchedWriter(make_transport(), batch) for _ in range(MAX_BATCHED)]
    for _ in range(MAX_BATCHED + 5):
        batch.expect()

    for writer in writers[:-1]:
        writer.write(b"a")
    before = sent(writers)
    writers[-1].write(b"a")

    assert (b"a" in before, sent(writers)) == (False, [b"a"] * MAX_BATCHED)


@pytest.fixture
def hold(batch, writers):
    """Return an writer that holds something, until the next turn."""

    def hold_a():
        for _ in range(3):
            batch.expect()
        writers[0].write(b"a")
        return writers[0]

    return hold_a


async def test_held_bytes_count_as_unsent(hold):
    held = hold()

    held._transport.unsent = 10

    assert held.unsent == 11


@pytest.mark.parametrize("how", ["write", "write_now"])
async def test_a_later_write_does_not_overtake(hold, how):
    held = hold()

    getattr(held, how)(b"b")

    assert held._transport.written == b"ab"


async def test_held_bytes_are_sent_before_the_connection_is_closed(hold):
    held = hold()

    held.close()

    assert (held._transport.written, held._transport.is_closed) == (b"a", True)


async def test_held_bytes_are_not_sent_on_a_connection_that_is_cut(hold):
    held = hold()

    held.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert (held._transport.written, held.unsent, held._transport.is_aborted) == (b"", 0, True)


async def test_held_bytes_are_not_sent_on_a_connection_that_was_lost(hold):
    held = hold()

    held._transport.is_closed = True
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert held._transport.written == b""


async def test_a_large_write_is_sent_at_once(batch, writers):
    for _ in range(3):
        batch.expect()

    writers[0].write(b"a" * (MAX_BATCHED_BYTES + 1))

    assert len(writers[0]._transport.written) == MAX_BATCHED_BYTES + 1


async def test_without_a_batch_everything_is_sent_at_once(make_transport):
    writer = BatchedWriter(make_transport())

    writer.write(b"a")

    assert writer._transport.written == b"a"
