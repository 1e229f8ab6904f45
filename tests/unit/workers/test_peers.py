"""Workers ask and tell each other by way of the parent."""

import asyncio
import socket

import msgspec
import pytest

from nexus.workers.channel import Channel
from nexus.workers.peers import Peers, Switchboard


def add_up(answers):
    return msgspec.Raw(msgspec.msgpack.encode(sum(map(msgspec.msgpack.decode, answers))))


@pytest.fixture
async def workers():
    """The ends of three workers, whose other ends one switchboard serves."""
    switchboard, ends, theirs = Switchboard({"counts": add_up}), [], []
    for number in range(1, 4):
        end, other = Channel("parent"), Channel(f"worker {number}")
        switchboard.serve(other, str(number))
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


def texts(answers):
    return {answer.worker: msgspec.msgpack.decode(answer.payload) for answer in answers.answers}


async def test_a_question_is_answered_by_all_others(workers):
    for number, end in enumerate(workers, 1):
        answer_with(end, f"worker {number}")

    answers = await Peers(workers[0]).ask("page", "stats", timeout_s=5)

    assert texts(answers) == {"2": "worker 2: stats", "3": "worker 3: stats"}
    assert (answers.asker, answers.count, answers.silent) == ("1", 2, ())


async def test_a_worker_that_fails_or_hangs_is_left_out_and_named(workers):
    async def hang(_: str) -> str:
        await asyncio.Event().wait()
        return "never"

    answer_with(workers[1], "worker 2")
    workers[2].answers("page", str, hang)

    answers = await Peers(workers[0]).ask("page", "stats", timeout_s=0.05)

    assert (texts(answers), answers.silent) == ({"2": "worker 2: stats"}, ("3",))


async def test_a_worker_that_has_ended_is_not_asked(workers):
    for end in workers[1:]:
        answer_with(end, "answered")
    workers[2].close()
    await workers[2].closed()

    async with asyncio.timeout(5):
        while texts(answers := await Peers(workers[0]).ask("page", "stats", timeout_s=5)).keys() != {"2"}:
            pass

    assert answers.silent == ()


async def test_what_ended_workers_have_counted_is_kept(workers):
    counts = {number: number for number in range(1, 4)}

    def count_with(number):
        async def answer(_: str) -> int:
            return counts[number]

        workers[number - 1].answers("counts", str, answer)

    for number in counts:
        count_with(number)
    asking = Peers(workers[0])
    assert await sum_of(asking) == 1 + 2 + 3

    Peers(workers[1]).leave("counts", 20)
    workers[1].close()
    workers[2].close()
    await workers[1].closed()

    async with asyncio.timeout(5):
        while len((await asking.ask("counts", "", timeout_s=5, is_kept=True)).answers) > 2:
            pass
    assert await sum_of(asking) == 1 + 20 + 3


async def test_what_a_silent_worker_has_counted_is_kept(workers):
    silent = asyncio.Event()

    async def answer(_: str) -> int:
        if silent.is_set():
            await asyncio.Event().wait()
        return 5

    for end in workers:
        end.answers("counts", str, answer)
    asking = Peers(workers[0])
    await asking.ask("counts", "", timeout_s=5, is_kept=True)
    silent.set()

    answers = await asking.ask("counts", "", timeout_s=0.05, is_kept=True)

    assert (answers.count, set(answers.silent)) == (0, {"1", "2", "3"})
    assert sum(texts(answers).values()) == 15


async def sum_of(asking):
    answers = await asking.ask("counts", "", timeout_s=5, is_kept=True)
    return sum(msgspec.msgpack.decode(answer.payload) for answer in answers.answers)


async def test_a_message_reaches_all_others_once_and_in_order(workers):
    received = [asyncio.Queue() for _ in workers]
    for end, queue in zip(workers, received, strict=True):
        Peers(end).on("ticket", int, queue.put_nowait)

    for number in range(20):
        Peers(workers[0]).tell("ticket", number)

    for queue in received[1:]:
        assert [await queue.get() for _ in range(20)] == list(range(20))
    assert received[0].empty()
