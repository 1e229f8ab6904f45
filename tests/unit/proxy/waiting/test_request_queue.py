"""A request that waits is served in turn, once, and its wait is bounded and counted."""

import asyncio
import time
from itertools import chain, repeat

import pytest
import uvloop

from nexus.errors import RequestError
from nexus.proxy.waiting.claim import Claim, Given, Unmet
from nexus.proxy.waiting.request_queue import MAX_TRIED_AT_ONCE, RequestQueue
from nexus.proxy.waiting.sharing import Depth, Sharing
from nexus.tasks import start, stop

GPU = Unmet(frozenset({"gpu"}))


class Slots:
    """The free slots of each backend, by name."""

    def __init__(self, line, **free):
        self.line = line
        self.free = free
        self.asked = []

    def wait(self, *backends, name="first", client="one", rank=1, left_s=60.0, picky=False, **claim):
        """Wait in a task of one's own.

        :param picky: whether it can use no slot, for a reason that concerns no other request.
        """
        unmet = Unmet(frozenset(backends), is_general=not picky)
        waiting = self.line.wait(
            Claim(client=client, rank=rank, **claim),
            unmet,
            lambda: self._take(backends, name) if not picky else self._refuse(unmet, name),
            give_back=self.give_back,
            left_s=left_s,
        )
        return start(waiting, name=name)

    def _refuse(self, unmet, name):
        self.asked.append(name)
        return unmet

    def _take(self, backends, name):
        self.asked.append(name)
        for backend in backends:
            if self.free[backend]:
                self.free[backend] -= 1
                return Given(backend, backend, has_room=self.free[backend] > 0)
        return Unmet(frozenset(backends))

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
    normal, urgent = slots.wait("gpu"), slots.wait("gpu", rank=0)
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
    picky = slots.wait("gpu", rank=0, picky=True)
    easy = slots.wait("gpu")
    await turn()

    slots.give_back("gpu")

    assert await easy == "gpu"
    picky.cancel()


@pytest.mark.parametrize("error", [RequestError("no_healthy_backend", "no backend is left"), ZeroDivisionError()])
async def test_a_search_that_fails_ends_its_own_waiting_and_no_other(line, slots, error):
    def fail():
        raise error

    failing = line.wait(Claim(client="one"), GPU, fail, give_back=slots.give_back, left_s=60)
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
        await slots.wait("gpu")

    # One is before it, and until more is known, a backend counts as taking one per second.
    assert (refused.value.code, refused.value.retry_after_s) == ("queue_full", 2)
    assert refused.value.context == {
        "queue": {"waiting": 1, "position": 2, "expected_wait_s": pytest.approx(2, abs=0.1), "is_measured": False}
    }
    waiting.cancel()


async def test_what_waits_elsewhere_leaves_a_process_its_part_of_the_line():
    sharing = Sharing(processes=2, index=2)
    line = RequestQueue(max_size=5, max_wait_s=30.0, max_body_bytes=100, sharing=sharing)
    slots = Slots(line, gpu=0)
    sharing.elsewhere = Depth(requests=4)
    waiting = [slots.wait("gpu", name=f"w{number}") for number in range(2)]
    await turn()

    assert (line.max_size, line.max_body_bytes, len(line)) == (2, 50, 2)
    with pytest.raises(RequestError, match="queue is full"):
        await slots.wait("gpu", name="late")
    sharing.elsewhere = Depth(requests=2)
    waiting.append(slots.wait("gpu", name="third"))
    await turn()
    assert len(line) == 3
    await stop(*waiting)


async def test_a_request_takes_the_place_of_one_though_others_have_taken_their_part_since():
    sharing = Sharing(processes=2)
    line = RequestQueue(max_size=4, max_wait_s=30.0, max_body_bytes=400, sharing=sharing)
    slots = Slots(line, gpu=0)
    waiting = [slots.wait("gpu", name=f"w{number}", size_bytes=100) for number in range(4)]
    await turn()
    sharing.elsewhere = Depth(requests=2, body_bytes=200)
    waiting.append(slots.wait("gpu", name="urgent", rank=0, size_bytes=100))
    await turn()

    assert (len(line), line.counts.shed) == (4, 1)
    await stop(*waiting)


async def test_bodies_elsewhere_leave_a_process_its_part_of_the_bytes():
    sharing = Sharing(processes=2)
    line = RequestQueue(max_size=5, max_wait_s=30.0, max_body_bytes=100, sharing=sharing)
    slots = Slots(line, gpu=0)
    sharing.elsewhere = Depth(body_bytes=60)
    waiting = slots.wait("gpu", name="first", size_bytes=30)
    await turn()

    with pytest.raises(RequestError, match="bodies in the queue"):
        await slots.wait("gpu", name="late", size_bytes=30)
    await stop(waiting)


async def test_a_line_without_room_takes_no_request():
    line = RequestQueue(max_size=0, max_wait_s=30.0)

    with pytest.raises(RequestError, match=r"queue\.max_size"):
        await Slots(line, gpu=0).wait("gpu")


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
        await Slots(line, gpu=0).wait("gpu", left_s=left_s)

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
        await Slots(line, gpu=0).wait("gpu", left_s=0.01)

    assert caught.value.code == "deadline_exceeded"


async def test_a_long_queue_holds_up_nothing_else_when_the_fleet_changes():
    line = RequestQueue(max_size=1000, max_wait_s=None)
    slots = Slots(line, gpu=0)
    waiting = [slots.wait("gpu", picky=True) for _ in range(500)]
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
    picky = [slots.wait("gpu", rank=0, picky=True) for _ in range(3 * MAX_TRIED_AT_ONCE)]
    easy = slots.wait("gpu")
    await turn()

    slots.give_back("gpu")

    assert await easy == "gpu"
    for task in picky:
        task.cancel()


async def test_requests_that_are_alike_do_not_all_try(line, slots):
    alike = [slots.wait("gpu", kind="chat") for _ in range(5)]
    other = slots.wait("gpu", "cpu", kind="embeddings", name="other")
    await turn()

    line.slot_freed("gpu")
    line.fleet_changed()

    assert slots.asked == ["first", "other"] * 2
    for task in (*alike, other):
        task.cancel()


async def test_each_free_slot_is_used(line, slots):
    waiting = [slots.wait("gpu") for _ in range(4)]
    await turn()
    slots.free["gpu"] = 2

    slots.give_back("gpu")
    await turn()

    assert [task.done() for task in waiting] == [True, True, True, False]
    waiting[3].cancel()


async def test_clients_take_turns(slots):
    flood = [slots.wait("gpu", name=f"flood-{number}", client="flood") for number in range(3)]
    await turn()
    single = slots.wait("gpu", name="single", client="single")
    await turn()
    for _ in range(2):
        slots.give_back("gpu")
        await turn()

    assert [task.done() for task in (*flood, single)] == [True, False, False, True]
    for task in flood:
        task.cancel()


async def test_a_backend_that_refuses_for_a_time_is_asked_again(line, slots):
    asked = []

    def try_now():
        asked.append(time.monotonic())
        return Given("gpu", "gpu") if len(asked) > 1 else Unmet(frozenset({"gpu"}), retry_in_s=0.02)

    began = time.monotonic()
    found = await line.wait(
        Claim(client="one"), Unmet(frozenset({"gpu"}), retry_in_s=0.02), try_now, give_back=print, left_s=60
    )

    assert found == "gpu"
    # Never earlier; how much later is up to the machine.
    assert min(asked[0] - began, asked[1] - asked[0]) >= 0.0199
    assert (len(asked), asked[1] - began < 2) == (2, True)
    assert line._timer is None


def test_many_refusals_for_a_time_end_on_uvloop_too():
    # For a timer that is due at once, uvloop returns a handle that does not know its time.
    errors = []

    async def wait_with(line, backend):
        unmet = Unmet(frozenset({backend}), retry_in_s=0.001)
        answers = chain([unmet] * 20, repeat(Given(backend, backend)))
        return await line.wait(Claim(client=backend), unmet, lambda: next(answers), give_back=print, left_s=5)

    async def wait():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        line = RequestQueue(max_size=10, max_wait_s=5.0)
        return await asyncio.gather(*(wait_with(line, backend) for backend in "abcde"))

    found = uvloop.run(wait())

    assert (found, errors) == (list("abcde"), [])


async def test_one_timer_is_enough(line, slots):
    waiting = [
        start(
            line.wait(Claim(client="one"), soon, lambda: Unmet(frozenset({"gpu"})), give_back=print, left_s=60),
            name="waits",
        )
        for soon in (Unmet(frozenset({"gpu"}), retry_in_s=retry_in_s) for retry_in_s in (50, 20, 70))
    ]
    await turn()

    assert line._timer.when() == pytest.approx(time.monotonic() + 20, abs=1)
    await stop(*waiting)
    assert line._timer is None or line._timer.cancelled()


async def test_a_request_follows_the_backends_that_have_its_model(line, slots):
    backends = [frozenset({"cpu"})]
    moving = start(
        line.wait(
            Claim(client="one"),
            GPU,
            lambda: Given("cpu", "cpu") if slots.free["cpu"] else Unmet(backends[0]),
            give_back=print,
            left_s=60,
        ),
        name="moves",
    )
    await turn()

    line.fleet_changed()
    slots.free["cpu"] = 1
    line.slot_freed("gpu")
    still_waits = not moving.done()
    line.slot_freed("cpu")

    assert still_waits
    assert await moving == "cpu"


# no room


async def test_a_newcomer_of_higher_priority_finds_room():
    line = RequestQueue(max_size=2, max_wait_s=30.0)
    slots = Slots(line, gpu=0)
    older, newer = slots.wait("gpu", rank=2), slots.wait("gpu", rank=2)
    await turn()

    urgent = slots.wait("gpu", rank=0)
    with pytest.raises(RequestError) as shed:
        await newer

    assert (shed.value.code, shed.value.context["queue"]["position"]) == ("queue_full", 2)
    assert counted(line) == (3, 0, 0, 0, 2)
    assert line.counts.shed == 1
    await stop(older, urgent)


async def test_a_client_that_fills_the_queue_gives_way_to_others():
    line = RequestQueue(max_size=3, max_wait_s=30.0)
    slots = Slots(line, gpu=0)
    flood = [slots.wait("gpu", client="flood") for _ in range(3)]
    await turn()

    single = slots.wait("gpu", client="single")
    with pytest.raises(RequestError, match="another request came before it"):
        await flood[2]
    with pytest.raises(RequestError, match="queue is full"):
        await slots.wait("gpu", client="flood")

    assert (line.counts.shed, line.counts.refused, len(line)) == (1, 1, 3)
    await stop(single, *flood[:2])


async def test_the_bodies_of_those_that_wait_have_a_limit():
    line = RequestQueue(max_size=10, max_wait_s=30.0, max_body_bytes=100)
    slots = Slots(line, gpu=0)
    large = slots.wait("gpu", size_bytes=1000)
    await turn()

    with pytest.raises(RequestError, match=r"queue\.max_body_bytes"):
        await slots.wait("gpu", size_bytes=1)

    await stop(large)
    assert line.line.size_bytes == 0


async def test_large_bodies_of_lower_priority_make_room():
    line = RequestQueue(max_size=10, max_wait_s=30.0, max_body_bytes=100)
    slots = Slots(line, gpu=0)
    lower = [slots.wait("gpu", rank=2, size_bytes=30) for _ in range(2)]
    same = slots.wait("gpu", size_bytes=30)
    await turn()

    with pytest.raises(RequestError, match="max_body_bytes"):
        # Even without the others there would be no room, so none of them has to leave.
        await slots.wait("gpu", size_bytes=80)
    kept = len(line)
    fits = slots.wait("gpu", size_bytes=70)
    with pytest.raises(RequestError, match="another request came before it"):
        await lower[1]
    with pytest.raises(RequestError, match="another request came before it"):
        await lower[0]

    assert (kept, len(line), line.line.size_bytes, line.counts.shed) == (3, 2, 100, 2)
    await stop(same, fits)


async def test_a_client_may_wait_for_less_than_the_operator_allows(line, slots):
    with pytest.raises(RequestError, match=r"0\.01 s .X-Nexus-Queue-Timeout") as refused:
        await line.wait(Claim(client="one"), GPU, lambda: GPU, give_back=print, left_s=60, own_limit_s=0.01)

    assert refused.value.context["queue"] | {"expected_wait_s": 1.0} == {
        "waiting": 0,
        "position": 1,
        "expected_wait_s": 1.0,
        "is_measured": False,
        "waited_s": 0.01,
        "limited_by": "X-Nexus-Queue-Timeout",
    }


async def test_the_expected_wait_follows_from_the_rate(line, slots):
    waiting = [slots.wait("gpu") for _ in range(8)]
    await turn()
    for _ in range(5):
        slots.give_back("gpu")
        await asyncio.sleep(0.01)

    forecast = line.forecast(Claim(client="one"), frozenset({"gpu"}))

    # Three are before it, and about (5 + 1) / (0.05 s + 1 s) have been taken each second.
    assert (forecast.ahead, forecast.is_measured) == (3, True)
    assert forecast.expected_s == pytest.approx(4 / (6 / 1.05), rel=0.1)
    assert line.rates() == {"gpu": pytest.approx(6 / 1.05, rel=0.1)}
    await stop(*waiting)
