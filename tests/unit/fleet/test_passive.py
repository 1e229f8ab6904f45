import pytest

from nexus.domain.backend import Breaker
from nexus.domain.outcome import Ending
from nexus.errors import UpstreamFault
from nexus.fleet.identity import backend_id
from nexus.fleet.passive import PassiveSignals
from nexus.fleet.registry import Registry

GPU = backend_id("gpu")


class Clock:
    """Timers that go off when the test says so."""

    def __init__(self):
        self.now = 0.0
        self.timers = []

    def later(self, delay_s, call):
        timer = Timer(self.now + delay_s, call)
        self.timers.append(timer)
        return timer

    def advance(self, seconds):
        self.now += seconds
        due = [timer for timer in self.timers if timer.at <= self.now]
        self.timers = [timer for timer in self.timers if timer not in due]
        for timer in due:
            if not timer.is_cancelled:
                timer.call()

    @property
    def pending(self):
        return [timer for timer in self.timers if not timer.is_cancelled]


class Timer:
    def __init__(self, at, call):
        self.at, self.call, self.is_cancelled = at, call, False

    def cancel(self):
        self.is_cancelled = True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def registry(make_backend):
    registry = Registry()
    registry.add(make_backend("gpu", "llama3"))
    return registry


@pytest.fixture
def refused():
    return []


@pytest.fixture
def passive(registry, clock, refused):
    def on_refused(backend_id):
        refused.append(backend_id)
        return True

    return PassiveSignals(registry, later=clock.later, on_refused=on_refused, chance=lambda: 0.5)


@pytest.fixture
def fail(passive, make_outcome):
    def fail(times=1):
        for _ in range(times):
            passive.report(GPU, make_outcome(Ending.BACKEND_FAILED, fault=UpstreamFault.RESET))

    return fail


def breaker(registry):
    return registry.snapshot.by_id[GPU].breaker


def test_three_failures_open_the_breaker_and_five_seconds_later_it_is_half_open(registry, clock, fail):
    fail(3)
    opened = breaker(registry)
    clock.advance(4.9)
    still = breaker(registry)
    clock.advance(0.1)

    assert (opened, still, breaker(registry)) == (Breaker.OPEN, Breaker.OPEN, Breaker.HALF_OPEN)


def test_a_request_that_is_answered_well_closes_it(registry, clock, passive, fail, make_outcome):
    fail(3)
    clock.advance(5)

    passive.report(GPU, make_outcome(status=200))

    assert breaker(registry) is Breaker.CLOSED
    assert clock.pending == []


def test_a_failure_while_half_open_doubles_the_pause(registry, clock, fail):
    fail(3)
    clock.advance(5)
    fail()
    clock.advance(9.9)
    still = breaker(registry)
    clock.advance(0.1)

    assert (still, breaker(registry)) == (Breaker.OPEN, Breaker.HALF_OPEN)


def test_a_client_that_leaves_neither_opens_nor_closes(registry, clock, passive, fail, make_outcome):
    fail(3)
    clock.advance(5)

    passive.report(GPU, make_outcome(Ending.CLIENT_LEFT, status=200))

    assert breaker(registry) is Breaker.HALF_OPEN


def test_the_faults_of_clients_between_failures_do_not_reset_the_count(registry, passive, fail, make_outcome):
    fail(2)
    passive.report(GPU, make_outcome(status=400))
    fail(1)

    assert breaker(registry) is Breaker.OPEN


def test_a_refused_connection_is_for_the_watch_to_settle(registry, passive, refused, make_outcome):
    passive.report(GPU, make_outcome(Ending.BACKEND_FAILED, fault=UpstreamFault.REFUSED))

    assert refused == [GPU]
    assert breaker(registry) is Breaker.CLOSED


def test_where_nobody_watches_a_refused_connection_opens_the_breaker_at_once(registry, clock, make_outcome):
    passive = PassiveSignals(registry, later=clock.later, on_refused=lambda _: False, chance=lambda: 0.5)

    passive.report(GPU, make_outcome(Ending.BACKEND_FAILED, fault=UpstreamFault.REFUSED))

    assert breaker(registry) is Breaker.OPEN


def test_retry_after_cools_a_backend_down_for_that_long(registry, clock, passive, make_outcome):
    passive.report(GPU, make_outcome(status=429), retry_after_s=10.0)
    cooled = registry.snapshot.by_id[GPU].is_cooling
    clock.advance(10)

    assert cooled
    assert not registry.snapshot.by_id[GPU].is_cooling
    assert breaker(registry) is Breaker.CLOSED


def test_a_later_retry_after_replaces_the_earlier_one(registry, clock, passive, make_outcome):
    passive.report(GPU, make_outcome(status=503), retry_after_s=10.0)
    clock.advance(5)
    passive.report(GPU, make_outcome(status=503), retry_after_s=10.0)
    clock.advance(6)

    assert registry.snapshot.by_id[GPU].is_cooling


def test_latency_is_the_time_to_the_first_content(registry, passive, make_outcome):
    passive.report(GPU, make_outcome(status=200, first_byte_s=0.25, duration_s=60.0))

    assert registry.snapshot.by_id[GPU].load.latency_ms == 250


def test_only_good_answers_tell_latency(registry, passive, make_outcome):
    passive.report(GPU, make_outcome(status=500, duration_s=0.001))
    passive.report(GPU, make_outcome(status=429, duration_s=0.001))

    assert registry.snapshot.by_id[GPU].load.latency_ms is None


def test_a_model_that_a_backend_denies_is_taken_off_its_list(registry, passive, make_backend):
    registry.add(make_backend("desk", "phi4:latest", kind="ollama"))

    passive.miss_model(GPU, "llama3")
    passive.miss_model(backend_id("desk"), "Phi4")
    passive.miss_model(GPU, "llama3")

    assert registry.snapshot.models == ()


def test_of_a_backend_that_is_gone_nothing_is_learnt(registry, clock, passive, fail):
    fail(3)
    registry.remove(GPU)
    passive.forget(GPU)
    fail()
    clock.advance(600)

    assert registry.snapshot.backends == ()
    assert clock.pending == []
