"""What a process tells of its requests in flight, and when."""

import asyncio

import pytest
from msgspec.structs import replace

from nexus.domain.backend import Breaker
from nexus.fleet.sharing.counting import COUNT_S, RequestCounter
from nexus.testing.builders import MODEL, make_backend, make_fleet


class Scene:
    """A counter whose ticks are those of the test."""

    def __init__(self, *backends):
        self.fleet, self.now, self.sent = make_fleet(*backends), 1000.0, []
        self.counter = RequestCounter(lambda: self.fleet, self.sent.extend, clock=lambda: self.now)

    async def tick(self, after_s=COUNT_S):
        self.now += after_s
        self.counter.start()
        self.counter.stop()
        await asyncio.sleep(0)


@pytest.fixture
def backend():
    return make_backend()


async def test_nothing_is_told_while_nothing_changes(backend):
    scene = Scene(backend)

    await scene.tick()

    assert scene.sent == []


async def test_requests_and_attempts_are_told_once(backend):
    scene = Scene(backend)
    backend.load.acquire(100, 50)
    backend.load.model(MODEL).in_flight += 1
    backend.load.count_request(2)

    await scene.tick()
    await scene.tick()

    (counts,) = scene.sent
    assert (counts.id, counts.begun, counts.load.in_flight, counts.load.models) == (backend.id, 2, 1, {MODEL: 1})
    assert (counts.load.prompt_tokens, counts.load.answer_tokens) == (100, 50)


async def test_a_sign_of_life_is_told_by_itself_once_a_second(backend):
    scene = Scene(backend)
    figures = backend.load.model(MODEL)
    backend.load.acquire()
    figures.in_flight, figures.alive_at = 1, scene.now
    await scene.tick()

    figures.alive_at += 0.5
    await scene.tick()
    figures.alive_at += 0.6
    await scene.tick()

    assert [counts.load.alive_at for counts in scene.sent] == [{MODEL: 1000.0}, {MODEL: 1001.1}]


async def test_a_half_open_breaker_is_looked_at_between_the_others(backend):
    steady, tried = backend, make_backend("tried", breaker=Breaker.HALF_OPEN)
    scene = Scene(steady, tried)
    await scene.tick()

    steady.load.acquire()
    tried.load.begin_probing()
    await scene.tick(after_s=COUNT_S / 10)

    assert [(counts.id, counts.load.probing) for counts in scene.sent] == [(tried.id, {""})]


async def test_a_backend_that_has_left_is_forgotten(backend):
    other = make_backend("other")
    scene = Scene(backend, other)
    for each in (backend, other):
        each.load.acquire()
    await scene.tick()

    scene.fleet = make_fleet(backend)
    await scene.tick()
    scene.fleet = make_fleet(backend, replace(other))
    await scene.tick()

    assert [counts.id for counts in scene.sent] == [backend.id, other.id, other.id]
