"""What waits for its turn at a busy backend is not late; what an idle one keeps waiting is."""

import asyncio
from types import SimpleNamespace

import pytest

from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.exchange.first_byte import USUAL_SLOTS, Deadlines, begin_wait, begun
from nexus.testing.builders import MODEL, make_backend

WAIT_S = 0.05


def at(backend):
    """An attempt at *backend*, as far as the wait uses it."""
    return SimpleNamespace(backend=backend, reserved=SimpleNamespace(model=MODEL))


class Response:
    """Notes when it was given up."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.begun_at = self.loop.time()
        self.waited_s = None

    def give_up_waiting(self):
        self.waited_s = self.loop.time() - self.begun_at


@pytest.fixture
def wait():
    async def wait(backend, *, last_s=60.0, during_s=0.3, work=None):
        response = Response()
        now = response.begun_at
        deadlines, last_at = Deadlines(response.loop), now + last_s
        turn = begin_wait(at(backend), response, deadlines, wait_s=WAIT_S, last_at=last_at, look=None, now=now)
        if work is not None:
            work(backend.load.model(MODEL), now)
        await asyncio.sleep(during_s)
        deadlines.end(turn)
        return response.waited_s

    return wait


def flow(figures, now):
    figures.flowing = 1


def end_answers_for_a_while(figures, now):
    figures.progressed_at = now + 0.1


async def test_a_backend_with_free_slots_has_no_excuse(wait):
    waited_s = await wait(make_backend(slots=4, in_flight=4), work=flow)

    assert WAIT_S <= waited_s < 0.2


async def test_a_full_one_that_does_nothing_has_none_either(wait):
    waited_s = await wait(make_backend(slots=4, in_flight=9))

    assert WAIT_S <= waited_s < 0.2


async def test_while_streams_flow_there_the_turn_may_come(wait):
    assert await wait(make_backend(slots=4, in_flight=5), work=flow) is None


async def test_the_wait_begins_again_with_each_answer_that_another_request_got(wait):
    waited_s = await wait(make_backend(slots=4, in_flight=5), work=end_answers_for_a_while)

    assert 0.1 + WAIT_S <= waited_s < 0.29


async def test_the_deadline_of_the_exchange_holds_all_the_same(wait):
    waited_s = await wait(make_backend(slots=4, in_flight=5), last_s=0.12, work=flow)

    assert 0.12 <= waited_s < 0.25


@pytest.mark.parametrize(("in_flight", "is_late"), [(USUAL_SLOTS, True), (USUAL_SLOTS + 1, False)])
async def test_where_slots_are_not_known_many_in_flight_make_a_queue(wait, in_flight, is_late):
    waited_s = await wait(make_backend(in_flight=in_flight), work=flow)

    assert (waited_s is not None) is is_late


class Stream:
    """A stream that has begun with comments alone, or with content."""

    mode = "events"
    on_content = None

    def __init__(self, content_at=None):
        self.loop = asyncio.get_running_loop()
        self.ready = self.loop.create_future()
        self.ready.set_result(None)
        self.content_at = content_at


@pytest.mark.parametrize("content_at", [None, 5.0])
async def test_a_stream_flows_from_its_first_content_on(make_reserved, make_upstream, content_at):
    backend = make_backend("gpu-1")
    attempt = Attempt(make_reserved(backend), make_upstream(backend), started_at=0.0)
    figures = backend.load.model(MODEL)
    stream = Stream(content_at)

    await begun(attempt, stream, Deadlines(stream.loop), wait_s=1.0, last_at=stream.loop.time() + 1)
    flowing = figures.flowing
    if stream.on_content is not None:
        stream.on_content(5.0)

    assert flowing == (content_at is not None)
    assert (figures.flowing, figures.progressed_at) == (1, 5.0)


async def test_another_backend_is_looked_for_until_the_wait_ends(monkeypatch):
    monkeypatch.setattr("nexus.proxy.exchange.first_byte.FIRST_LOOK_S", 0.01)
    response, looks = Response(), []
    response.ready = response.loop.create_future()

    def look(now):
        looks.append(now - response.begun_at)
        if len(looks) == 3:
            response.ready.set_result(None)
        return now + 0.02

    deadlines = Deadlines(response.loop)
    now = response.begun_at
    begin_wait(at(make_backend()), response, deadlines, wait_s=5.0, last_at=now + 60.0, look=look, now=now)
    await asyncio.sleep(0.2)

    assert len(looks) == 3
    assert looks[0] >= 0.01
    assert (len(deadlines), response.waited_s) == (0, None)


async def test_looking_does_not_put_off_the_deadline(monkeypatch):
    monkeypatch.setattr("nexus.proxy.exchange.first_byte.FIRST_LOOK_S", 0.01)
    response = Response()
    response.ready = response.loop.create_future()
    now, deadlines = response.begun_at, Deadlines(response.loop)
    look = lambda now: now + 0.02  # noqa: E731
    begin_wait(at(make_backend()), response, deadlines, wait_s=WAIT_S, last_at=now + 60.0, look=look, now=now)
    await asyncio.sleep(0.2)

    assert response.waited_s is not None
