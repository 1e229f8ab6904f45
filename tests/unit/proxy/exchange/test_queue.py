"""Who waits is served in turn, once, and never at the cost of somebody else."""

import asyncio
import time

import pytest

from nexus.errors import RequestError
from nexus.proxy.exchange.queue import MAX_TRIED_AT_ONCE, RequestQueue
from nexus.tasks import start, stop


class Slots:
    """The free slots of each backend, by name."""

    def __init__(self, line, **free):
        self.line = line
        self.free = free
        self.asked = []

    def wait(self, *backends, name="somebody", is_urgent=False, left_s=60.0):
        """Wait in a task of one's own."""
        waiting = self.line.wait(
            frozenset(backends),
            lambda: self._take(backends, name),
            give_back=self.give_back,
            is_urgent=is_urgent,
            left_s=left_s,
        )
        return start(waiting, name=name)

    def _take(self, backends, name):
        self.asked.append(name)
        for backend in backends:
            if self.free[backend]:
                self.free[backend] -= 1
                return backend
        return None

    def give_back(self, backend):
        self.free[backend] += 1
        self.line.slot_freed(backend)


@pytest.fixture
def line():
    return RequestQueue(max_size=10, max_wait_s=5.0)


@pytest.fixture
def slots(line):
    return Slots(line, gpu=0, cpu=0)


async def turn():
    """Let everybody who can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_came_first_is_served_first(slots):
    first, second = slots.wait("gpu"), slots.wait("gpu")
    await turn()

    slots.give_back("gpu")
    await turn()

    assert (first.done(), second.done()) == (True, False)
    slots.give_back("gpu")
    assert await second == "gpu"


async def test_who_is_urgent_is_served_before(slots):
    normal, urgent = slots.wait("gpu"), slots.wait("gpu", is_urgent=True)
    await turn()

    slots.give_back("gpu")
    await turn()

    assert (normal.done(), urgent.done()) == (False, True)
    slots.give_back("gpu")
    await normal


async def test_who_waits_for_another_backend_is_not_asked(slots):
    other, meant = slots.wait("cpu", name="other"), slots.wait("gpu", name="meant")
    await turn()

    slots.give_back("gpu")
    slots.give_back("cpu")
    await asyncio.gather(other, meant)

    assert slots.asked == ["meant", "other"]


async def test_a_slot_that_the_first_cannot_use_goes_to_the_next(line, slots):
    picky = start(
        line.wait(frozenset({"gpu"}), lambda: None, give_back=slots.give_back, is_urgent=True, left_s=60), name="picky"
    )
    easy = slots.wait("gpu")
    await turn()

    slots.give_back("gpu")

    assert await easy == "gpu"
    picky.cancel()


@pytest.mark.parametrize("error", [RequestError("no_healthy_backend", "nobody is left"), ZeroDivisionError()])
async def test_a_search_that_fails_ends_its_own_waiting_and_nobody_elses(line, slots, error):
    def fail():
        raise error

    failing = line.wait(frozenset({"gpu"}), fail, give_back=slots.give_back, is_urgent=False, left_s=60)
    broken = start(asyncio.wait([start(failing, name="failing")]), name="broken")
    waiting = slots.wait("gpu")
    await turn()

    slots.give_back("gpu")

    assert await waiting == "gpu"
    (task,), _ = await broken
    assert task.exception() is error


async def test_a_newcomer_finds_no_room_in_a_full_line():
    line = RequestQueue(max_size=1, max_wait_s=30.0)
    slots = Slots(line, gpu=0)
    waiting = slots.wait("gpu")
    await turn()

    with pytest.raises(RequestError) as refused:
        await line.wait(frozenset({"gpu"}), lambda: None, give_back=slots.give_back, is_urgent=False, left_s=60)

    assert (refused.value.code, refused.value.retry_after_s) == ("queue_full", 30)
    waiting.cancel()


async def test_a_line_without_room_takes_nobody():
    line = RequestQueue(max_size=0, max_wait_s=30.0)

    with pytest.raises(RequestError, match=r"queue\.max_size"):
        await line.wait(frozenset({"gpu"}), lambda: None, give_back=print, is_urgent=False, left_s=60)


async def test_who_has_been_served_makes_room_at_once(line, slots):
    waiting = slots.wait("gpu")
    await turn()

    slots.give_back("gpu")

    assert len(line) == 0
    assert await waiting == "gpu"


@pytest.mark.parametrize(
    ("left_s", "code", "retry_after_s"), [(60.0, "queue_timeout", 1), (0.01, "deadline_exceeded", None)]
)
async def test_waiting_ends_when_it_has_taken_too_long(left_s, code, retry_after_s):
    line = RequestQueue(max_size=10, max_wait_s=0.02)

    with pytest.raises(RequestError) as refused:
        await line.wait(frozenset({"gpu"}), lambda: None, give_back=print, is_urgent=False, left_s=left_s)

    assert (refused.value.code, refused.value.retry_after_s) == (code, retry_after_s)
    assert len(line) == 0


async def test_who_leaves_is_asked_no_more(line, slots):
    leaving, staying = slots.wait("gpu", name="leaving"), slots.wait("gpu", name="staying")
    await turn()

    leaving.cancel()
    await turn()
    slots.give_back("gpu")

    assert await staying == "gpu"
    assert slots.asked == ["staying"]
    assert len(line) == 0


async def test_a_slot_given_to_who_leaves_in_that_moment_goes_to_the_next(slots):
    leaving, staying = slots.wait("gpu"), slots.wait("gpu")
    await turn()

    slots.give_back("gpu")
    leaving.cancel()

    assert await staying == "gpu"
    assert leaving.cancelled()
    assert slots.free["gpu"] == 0


async def test_a_slot_given_in_the_moment_of_the_deadline_comes_back(slots):
    loop = asyncio.get_running_loop()
    waiting = slots.wait("gpu", left_s=0.02)
    await turn()

    # Both are due when the loop wakes up, the slot first: its owner is told of the deadline all the same.
    loop.call_later(0.005, slots.give_back, "gpu")
    time.sleep(0.05)  # noqa: ASYNC251 - the loop must be late for both

    with pytest.raises(RequestError, match="deadline"):
        await waiting
    assert slots.free["gpu"] == 1


async def test_everybody_tries_again_once_when_the_fleet_has_changed(slots):
    waiting = [slots.wait("gpu", name=str(number)) for number in range(3)]
    await turn()
    slots.free["gpu"] = 2

    slots.line.fleet_changed()
    await turn()

    assert [task.done() for task in waiting] == [True, True, False]
    assert slots.asked == ["0", "1", "2"]
    waiting[2].cancel()


async def test_new_limits_are_for_newcomers():
    line = RequestQueue(max_size=0, max_wait_s=5.0)
    slots = Slots(line, gpu=0)

    line.resize(max_size=1, max_wait_s=0.01)

    with pytest.raises(RequestError, match=r"0\.01 s"):
        await slots.wait("gpu")


def counted(line):
    counts = line.counts
    return counts.enqueued, counts.drained, counts.timed_out, counts.left, len(line)


async def test_whoever_waited_is_counted_by_what_came_of_it(line, slots):
    served, left, waiting = slots.wait("gpu"), slots.wait("cpu"), slots.wait("cpu")
    await turn()
    slots.free["gpu"] += 1
    line.slot_freed("gpu")
    left.cancel()
    await turn()

    assert counted(line) == (3, 1, 0, 1, 1)
    assert sum(line.counts.waits.counts) == 2
    await served
    await stop(waiting)


async def test_whoever_waited_too_long_is_counted(slots, line):
    with pytest.raises(RequestError):
        await slots.wait("gpu", left_s=0.01)

    assert counted(line) == (1, 0, 1, 0, 0)
    assert line.counts.waits.sum >= 0.01


async def test_whoever_finds_the_line_full_has_not_waited(slots, line):
    line.resize(max_size=0, max_wait_s=1.0)

    with pytest.raises(RequestError):
        await slots.wait("gpu")

    assert counted(line) == (0, 0, 0, 0, 0)


async def test_without_a_longest_wait_the_deadline_of_the_request_ends_it():
    line = RequestQueue(max_size=10, max_wait_s=None)

    with pytest.raises(RequestError) as caught:
        await line.wait(frozenset({"gpu"}), lambda: None, give_back=list, is_urgent=False, left_s=0.01)

    assert caught.value.code == "deadline_exceeded"


async def test_a_long_queue_holds_up_nothing_else_when_the_fleet_changes():
    line = RequestQueue(max_size=1000, max_wait_s=None)
    slots = Slots(line, gpu=0)
    waiting = [slots.wait("gpu") for _ in range(500)]
    await turn()

    line.fleet_changed()
    tried_at_once = len(slots.asked)
    for _ in range(20):
        await asyncio.sleep(0)

    assert tried_at_once == MAX_TRIED_AT_ONCE
    assert len(slots.asked) == 500
    for task in waiting:
        task.cancel()


async def test_a_slot_that_many_cannot_use_still_reaches_the_one_that_can():
    line = RequestQueue(max_size=1000, max_wait_s=None)
    slots = Slots(line, gpu=0)
    picky = [
        start(line.wait(frozenset({"gpu"}), lambda: None, give_back=list, is_urgent=True, left_s=60), name="picky")
        for _ in range(3 * MAX_TRIED_AT_ONCE)
    ]
    easy = slots.wait("gpu")
    await turn()

    slots.give_back("gpu")

    assert await easy == "gpu"
    for task in picky:
        task.cancel()
