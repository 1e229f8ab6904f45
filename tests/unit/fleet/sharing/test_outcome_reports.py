"""Which outcomes the process that has the fleet is told of, and when."""

import pytest

from nexus.domain.outcome import Ending
from nexus.error_codes import UpstreamFault
from nexus.fleet.sharing.outcome_reports import SAMPLE_S, OutcomeReports
from nexus.testing.builders import MODEL, make_attempt, make_backend


class Scene:
    def __init__(self):
        self.now, self.sent, self.timers = 1000.0, [], []
        self.backend = make_backend()
        self.reports = OutcomeReports(
            lambda *_: "bad",
            self.sent.append,
            later=lambda _, call: self.timers.append(call),
            clock=lambda: self.now,
        )

    def good(self):
        self.reports.add(self.backend, make_attempt(), None)

    def bad(self):
        attempt = make_attempt(ending=Ending.BACKEND_FAILED, fault=UpstreamFault.RESET, status=None)
        self.reports.add(self.backend, attempt, None)

    def fire(self):
        timers, self.timers = self.timers, []
        for call in timers:
            call()

    @property
    def told(self):
        return [len(batch) for batch in self.sent]


@pytest.fixture
def scene():
    return Scene()


def test_of_good_answers_one_in_a_while_is_told(scene):
    for _ in range(3):
        scene.good()
    scene.fire()
    scene.now += SAMPLE_S
    scene.good()
    scene.fire()

    assert scene.told == [1, 1]


def test_a_failure_is_told_at_once_with_all_that_came_before(scene):
    scene.good()
    scene.bad()

    assert scene.told == [2]


def test_all_good_answers_after_a_failure_are_told_together(scene):
    scene.bad()
    for _ in range(3):
        scene.good()
    scene.fire()

    assert scene.told == [1, 3]


def test_each_attempt_counts_in_the_own_load_whether_it_is_told_or_not(scene):
    for _ in range(3):
        scene.good()

    assert scene.backend.load.is_latency_real
    assert scene.backend.load.models[MODEL].used_at == scene.now
