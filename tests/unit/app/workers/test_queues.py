"""Each worker knows how much waits in the queues of all others, until they end."""

import asyncio
import socket

import pytest

from nexus.app.workers.queues import DepthReports, DepthSums
from nexus.proxy.waiting.sharing import Depth, Sharing
from nexus.workers.channel import Channel


class Later:
    """Keeps what is to be called later."""

    def __init__(self):
        self.calls = []

    def __call__(self, delay_s, call):
        self.calls.append(call)

    async def pass_by(self):
        calls, self.calls = self.calls, []
        for call in calls:
            call()
        for _ in range(20):
            await asyncio.sleep(0.001)


class Line:
    """A queue in which so much waits."""

    def __init__(self):
        self.size_bytes = self.length = 0
        self.line = self

    def __len__(self):
        return self.length


class Process:
    def __init__(self, later):
        self.channel, self.sharing, self.queue = Channel("parent"), Sharing(3), Line()
        DepthReports(self.channel, self.sharing, later).follow(self.queue)

    def wait(self, requests, body_bytes):
        self.queue.length, self.queue.size_bytes = requests, body_bytes
        self.sharing.on_change()


@pytest.fixture
def later():
    return Later()


@pytest.fixture
async def workers(later):
    sums, workers, theirs = DepthSums(later), [Process(later) for _ in range(3)], []
    for worker in workers:
        theirs.append(Channel("worker"))
        sums.serve(theirs[-1])
        for channel, sock in zip((worker.channel, theirs[-1]), socket.socketpair(), strict=True):
            await channel.open(sock)
    await later.pass_by()
    yield workers
    for channel in (*theirs, *(worker.channel for worker in workers)):
        channel.close()
        await channel.closed()


def elsewhere(workers):
    return [worker.sharing.elsewhere for worker in workers]


async def test_each_knows_the_sum_of_the_others(workers, later):
    workers[0].wait(1, 10)
    workers[0].wait(2, 20)
    workers[1].wait(5, 50)
    is_gathered = len(later.calls) == 2
    await later.pass_by()
    await later.pass_by()

    assert is_gathered
    assert elsewhere(workers) == [Depth(5, 50), Depth(2, 20), Depth(7, 70)]


async def test_what_waited_in_a_worker_that_ended_is_forgotten(workers, later):
    workers[0].wait(2, 20)
    await later.pass_by()
    await later.pass_by()
    workers[0].channel.close()
    await workers[0].channel.closed()
    await asyncio.sleep(0.01)
    await later.pass_by()

    assert elsewhere(workers[1:]) == [Depth(), Depth()]
