"""A backend whose key is refused is shown as misconfigured, and gets another chance later."""

import pytest

from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.error_codes import UpstreamFault
from nexus.fleet.health.misconfiguration import PAUSE_S, Misconfigurations
from nexus.fleet.membership.registry import Registry
from nexus.testing.builders import make_backend
from tests.support.fakes import FakeClock

BACKEND = make_backend("paid")


@pytest.fixture
def registry():
    registry = Registry()
    registry.add(BACKEND)
    return registry


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def misconfigurations(registry, clock):
    return Misconfigurations(registry, later=clock.call_later)


def refused(status=401):
    return outcome(ending=Ending.BACKEND_FAILED, fault=UpstreamFault.CREDENTIALS, status=status)


def outcome(ending=Ending.FINISHED, **facts):
    return AttemptOutcome(backend=BACKEND.name, backend_id=BACKEND.id, model="m", ending=ending, **facts)


@pytest.mark.parametrize("status", [401, 402, 407])
def test_one_refusal_of_the_key_is_enough(registry, misconfigurations, status):
    misconfigurations.report(BACKEND.id, refused(status))

    assert f"HTTP {status}" in registry.row(BACKEND.id).misconfigured


def test_one_403_may_be_about_one_request(registry, misconfigurations):
    for _ in range(2):
        misconfigurations.report(BACKEND.id, refused(403))
    before = registry.row(BACKEND.id).misconfigured
    misconfigurations.report(BACKEND.id, refused(403))

    assert before is None
    assert "HTTP 403" in registry.row(BACKEND.id).misconfigured


def test_an_answer_between_them_starts_the_count_again(registry, misconfigurations):
    for report in (refused(403), refused(403), outcome(status=200), refused(403)):
        misconfigurations.report(BACKEND.id, report)

    assert registry.row(BACKEND.id).misconfigured is None


def test_an_answer_removes_the_mark(registry, clock, misconfigurations):
    misconfigurations.report(BACKEND.id, refused())
    misconfigurations.report(BACKEND.id, outcome(status=200))

    assert registry.row(BACKEND.id).misconfigured is None
    assert clock.timers == []


@pytest.mark.parametrize("ending", [Ending.CLIENT_LEFT, Ending.TIMED_OUT, Ending.SHUT_DOWN])
def test_an_attempt_without_evidence_keeps_the_mark(registry, misconfigurations, ending):
    misconfigurations.report(BACKEND.id, refused())
    misconfigurations.report(BACKEND.id, outcome(ending=ending))

    assert registry.row(BACKEND.id).misconfigured is not None


def test_after_a_pause_the_key_may_be_tried_again(registry, clock, misconfigurations):
    misconfigurations.report(BACKEND.id, refused())
    clock.advance(PAUSE_S - 1)
    before = registry.row(BACKEND.id).misconfigured

    clock.advance(1)

    assert before is not None
    assert registry.row(BACKEND.id).misconfigured is None


def test_a_backend_that_has_left_is_forgotten(registry, clock, misconfigurations):
    misconfigurations.report(BACKEND.id, refused())
    registry.remove(BACKEND.id)
    misconfigurations.forget(BACKEND.id)
    misconfigurations.report(BACKEND.id, refused())

    assert clock.timers == []
