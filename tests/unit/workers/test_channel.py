"""Two processes of a proxy exchange messages, and questions with answers."""

import asyncio
import socket

import msgspec
import pytest
from structlog.testing import capture_logs

from nexus.errors import StoreError
from nexus.workers import channel as module
from nexus.workers.channel import Channel, ChannelClosed, ChannelFull, NotAnswered, PeerFailed


class Slots(msgspec.Struct, frozen=True):
    backend: str
    count: int


@pytest.fixture
async def ends():
    """Both ends of one connection, open."""
    parent, worker = Channel("worker 1"), Channel("parent")
    for end, sock in zip((parent, worker), socket.socketpair(), strict=True):
        await end.open(sock)
    yield parent, worker
    for end in (parent, worker):
        end.close()
        await end.closed()


async def turns(count=10):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_messages_arrive_in_order_as_what_they_were(ends):
    parent, worker = ends
    received = asyncio.Queue()
    worker.on("slots", Slots, received.put_nowait)

    for count in range(100):
        parent.send("slots", Slots("gpu", count))

    assert [await received.get() for _ in range(100)] == [Slots("gpu", count) for count in range(100)]


async def test_a_question_gets_its_own_answer(ends):
    parent, worker = ends
    hold = asyncio.Event()

    async def doubled(number: int) -> int:
        if number == 1:
            await hold.wait()
        return number * 2

    parent.answers("double", int, doubled)
    first = asyncio.ensure_future(worker.ask("double", 1, int, timeout_s=5))

    assert await worker.ask("double", 21, int, timeout_s=5) == 42
    hold.set()
    assert await first == 2


async def test_both_sides_may_ask_at_the_same_time(ends):
    async def echoed(text: str) -> str:
        return text

    for end in ends:
        end.answers("echo", str, echoed)

    assert await asyncio.gather(*(end.ask("echo", end.name, str, timeout_s=5) for end in ends)) == [
        "worker 1",
        "parent",
    ]


async def test_an_error_of_the_other_process_keeps_its_class_and_text(ends):
    parent, worker = ends

    async def fail(_: str) -> None:
        raise StoreError("the disk is full")

    parent.answers("store.get", str, fail)

    with pytest.raises(PeerFailed, match="the disk is full") as failed:
        await worker.ask("store.get", "key", str, timeout_s=5)

    assert (failed.value.error, failed.value.text) == ("StoreError", "the disk is full")


async def test_a_defect_of_the_other_process_is_logged_there(ends):
    parent, worker = ends

    async def fail(_: str) -> None:
        raise ZeroDivisionError("oops")

    parent.answers("work", str, fail)

    with capture_logs() as log, pytest.raises(PeerFailed) as failed:
        await worker.ask("work", "key", str, timeout_s=5)

    assert failed.value.error == "ZeroDivisionError"
    assert [(line["event"], line["peer"]) for line in log] == [("channel_question_failed", "worker 1")]


async def test_a_question_nothing_answers_is_refused(ends):
    with pytest.raises(PeerFailed, match="unknown"):
        await ends[1].ask("unheard", None, str, timeout_s=5)


async def test_a_question_times_out_and_its_late_answer_is_dropped(ends):
    parent, worker = ends
    hold = asyncio.Event()

    async def late(_: None) -> str:
        await hold.wait()
        return "late"

    parent.answers("late", type(None), late)
    with pytest.raises(NotAnswered, match=r"parent has not answered 'late' after 0\.01 s"):
        await worker.ask("late", None, str, timeout_s=0.01)
    hold.set()

    assert await worker.ask("late", None, str, timeout_s=5) == "late"


async def test_a_message_that_cannot_be_used_does_not_end_the_connection(ends):
    parent, worker = ends
    received = asyncio.Queue()
    worker.on("slots", Slots, received.put_nowait)

    with capture_logs() as log:
        parent.send("slots", "not slots")
        parent.send("rows", None)
        parent.send("slots", Slots("gpu", 1))
        await received.get()

    assert [line["event"] for line in log] == ["channel_message_failed", "channel_topic_unknown"]


async def test_the_end_of_the_other_process_ends_questions_and_is_told_once(ends):
    parent, worker = ends
    told = []
    worker.on_closed(lambda: told.append("first"))
    hold = asyncio.Event()

    async def never(_: None) -> None:
        await hold.wait()

    parent.answers("never", type(None), never)
    asking = asyncio.ensure_future(worker.ask("never", None, str, timeout_s=5))
    await turns()
    parent.close()

    with pytest.raises(ChannelClosed, match="parent has ended"):
        await asking
    worker.on_closed(lambda: told.append("late"))
    assert told == ["first", "late"]
    with pytest.raises(ChannelClosed):
        worker.send("slots", 1)
    assert not worker.is_open
    hold.set()


async def test_what_was_sent_before_the_end_still_arrives(ends):
    parent, worker = ends
    received = asyncio.Queue()
    worker.on("text", str, received.put_nowait)

    for _ in range(50):
        parent.send("text", "x" * 100_000)
    parent.close()
    await worker.closed()

    assert received.qsize() == 50


async def test_a_process_that_does_not_read_is_not_written_to_without_bound(monkeypatch):
    monkeypatch.setattr(module, "MAX_UNSENT_BYTES", 100_000)
    parent = Channel("worker 1")
    ours, theirs = socket.socketpair()
    await parent.open(ours)

    with theirs:
        while parent.unsent <= 100_000:
            parent.send("text", "x" * 100_000)
        with pytest.raises(ChannelFull, match="worker 1 does not read"):
            parent.send("text", "x")

    parent.close()


async def test_questions_are_bounded(ends, monkeypatch):
    monkeypatch.setattr(module, "MAX_QUESTIONS", 2)
    parent, worker = ends
    hold = asyncio.Event()

    async def held(_: None) -> str:
        await hold.wait()
        return "ok"

    parent.answers("held", type(None), held)
    asking = [asyncio.ensure_future(worker.ask("held", None, str, timeout_s=5)) for _ in range(2)]
    await turns()

    with pytest.raises(ChannelFull):
        await worker.ask("held", None, str, timeout_s=5)
    hold.set()
    assert await asyncio.gather(*asking) == ["ok", "ok"]


async def test_bytes_that_are_no_message_end_the_connection():
    parent = Channel("worker 1")
    ours, theirs = socket.socketpair()
    await parent.open(ours)

    with capture_logs() as log, theirs:
        theirs.send(b"\xff\xff\xff\xff")
        await parent.closed()

    assert [line["event"] for line in log] == ["channel_broken"]
