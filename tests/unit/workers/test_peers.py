"""Workers ask and tell each other by way of the parent."""

import asyncio
import socket

import pytest

from nexus.workers.channel import Channel
from nexus.workers.peers import Peers, Switchboard


@pytest.fixture
async def workers():
    """The ends of three workers, whose other ends one switchboard serves."""
    switchboard, ends, theirs = Switchboard(), [], []
    for number in range(1, 4):
        end, other = Channel("parent"), Channel(f"worker {number}")
        switchboard.serve(other)
        for channel, sock in zip((end, other), socket.socketpair(), strict=True):
            await channel.open(sock)
        switchboard.add(other)
        ends.append(end)
        theirs.append(other)
    yield ends
    for end in (*ends, *theirs):
        end.close()
        await end.closed()


def answer_with(end, text):
    async def answer(question: str) -> str:
        return f"{text}: {question}"

    Peers(end).answers("page", str, answer)


async def test_a_question_is_answered_by_all_others(workers):
    for number, end in enumerate(workers, 1):
        answer_with(end, f"worker {number}")

    answers, asked = await Peers(workers[0]).ask("page", "stats", str, timeout_s=5)

    assert (sorted(answers), asked) == (["worker 2: stats", "worker 3: stats"], 2)


async def test_a_worker_that_fails_or_hangs_is_left_out(workers):
    async def hang(_: str) -> str:
        await asyncio.Event().wait()
        return "never"

    answer_with(workers[1], "worker 2")
    workers[2].answers("page", str, hang)

    answers, asked = await Peers(workers[0]).ask("page", "stats", str, timeout_s=0.05)

    assert (answers, asked) == (("worker 2: stats",), 2)


async def test_a_worker_that_has_ended_is_not_asked(workers):
    for end in workers[1:]:
        answer_with(end, "answered")
    workers[2].close()
    await workers[2].closed()

    async with asyncio.timeout(5):
        while (await Peers(workers[0]).ask("page", "stats", str, timeout_s=5))[1] != 1:
            pass

    assert await Peers(workers[0]).ask("page", "stats", str, timeout_s=5) == (("answered: stats",), 1)


async def test_a_message_reaches_all_others_once_and_in_order(workers):
    received = [asyncio.Queue() for _ in workers]
    for end, queue in zip(workers, received, strict=True):
        Peers(end).on("ticket", int, queue.put_nowait)

    for number in range(20):
        Peers(workers[0]).tell("ticket", number)

    for queue in received[1:]:
        assert [await queue.get() for _ in range(20)] == list(range(20))
    assert received[0].empty()
