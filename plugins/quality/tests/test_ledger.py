"""Only who exists is remembered, and only as many as there is room for."""

import pytest
import structlog

from nexus.testing.builders import MODEL, make_backend, make_fleet
from nexus_quality.config import QualityConfig
from nexus_quality.ledger import Ledger

DAY_S = 86_400


def test_who_has_left_the_fleet_is_forgotten(scene):
    it = scene()
    it.record("gpu-1")
    it.record("gpu-2")
    del it.backends["gpu-1"]

    it.judge()

    assert [track.backend for track in it.ledger.living()] == ["gpu-2"]


def test_what_was_under_way_does_not_bring_it_back(scene):
    it = scene()
    del it.backends["gpu-1"]
    it.judge()

    it.record("gpu-1")

    assert it.track("gpu-1") is None


def test_another_server_under_an_old_name_begins_anew(scene):
    it = scene()
    it.fail("gpu-1", times=20)
    it.backends["gpu-1"] = make_backend("gpu-1", url="http://elsewhere:8000")

    assert it.judge().avoided == set()


def test_a_fleet_that_changes_otherwise_forgets_nobody(scene):
    it = scene()
    it.fail("gpu-1", times=20)
    it.backends["gpu-3"] = make_backend("gpu-3")

    assert it.judge().avoided == {"gpu-1"}


def test_who_was_not_asked_for_a_day_is_forgotten(scene, clock):
    it = scene()
    it.record("gpu-1")
    clock.advance(DAY_S / 2)
    it.record("gpu-2")
    clock.advance(DAY_S / 2 + 1)

    assert [track.backend for track in it.ledger.living()] == ["gpu-2"]


def test_of_one_too_many_the_one_that_was_silent_for_the_longest_time_goes(clock, make_attempt, make_outcome):
    ledger = Ledger(clock, most_tracked=2)
    ledger.follow(make_fleet(make_backend()))
    for model in ("a", "b", "a", "c"):
        ledger.record(make_outcome(make_attempt(model=model)), QualityConfig())

    assert [track.model for track in ledger.living()] == ["a", "c"]


def test_nothing_is_learnt_before_it_is_known_who_exists(ledger, make_attempt, make_outcome):
    ledger.record(make_outcome(make_attempt()), QualityConfig())

    assert ledger.living() == []


@pytest.mark.parametrize("attempts", [0, 1])
def test_an_exchange_without_an_attempt_is_nothing_to_learn_from(scene, make_attempt, make_outcome, attempts):
    it = scene()

    it.ledger.record(make_outcome(*[make_attempt()] * attempts), it.config)

    assert len(it.ledger.living()) == attempts


def test_the_log_is_told_once_when_one_becomes_poor_and_once_when_it_is_well_again(scene, clock):
    it = scene()
    with structlog.testing.capture_logs() as lines:
        it.fail("gpu-1", times=15)
        clock.advance(61)
        it.record("gpu-1", times=6)

    assert lines == [
        {
            "event": "quality_poor",
            "log_level": "warning",
            "backend": "gpu-1",
            "model": MODEL,
            "error_rate_1h": 1.0,
            "avg_ttft_ms": None,
            "request_count_1h": 10,
        },
        {
            "event": "quality_recovered",
            "log_level": "info",
            "backend": "gpu-1",
            "model": MODEL,
            "error_rate_1h": 0.75,
            "avg_ttft_ms": None,
            "request_count_1h": 20,
        },
    ]


def test_one_on_the_line_does_not_fill_the_log(scene):
    it = scene()
    it.record("gpu-1", times=10)
    with structlog.testing.capture_logs() as lines:
        for _ in range(100):
            it.fail("gpu-1", times=2)
            it.record("gpu-1", times=2)

    assert len(lines) <= 1
