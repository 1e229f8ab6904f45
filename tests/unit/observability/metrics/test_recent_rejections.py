"""Recent refusals are counted by stage and code, with the last reason."""

import msgspec
import pytest

from nexus.observability.metrics.recent_rejections import MAX_KINDS, RecentRejections, merge_rejections
from nexus.testing.builders import make_attempt, make_outcome
from tests.support.fakes import FakeClock


@pytest.fixture
def clock():
    return FakeClock(1000.0)


@pytest.fixture
def rejections(clock):
    return RecentRejections(clock=clock)


def spent(reason="the monthly limit is spent"):
    return make_outcome(code="rejected_by_policy", rejected_by="budget", rejected_because=reason)


def rows(rejections):
    return [(r.by, r.code, r.requests, r.reason) for r in rejections.last_five_minutes()]


def test_refusals_are_counted_by_stage_with_the_last_reason(rejections):
    for reason in ("first", "last"):
        rejections.observe(spent(reason))
    rejections.observe(make_outcome(status=404, code="model_not_found", error_message="Model 'x' not found."))

    assert rows(rejections) == [
        ("budget", "rejected_by_policy", 2, "last"),
        (None, "model_not_found", 1, "Model 'x' not found."),
    ]


def test_what_was_not_refused_is_not_counted(rejections):
    rejections.observe(make_outcome(make_attempt()))
    rejections.observe(make_outcome(make_attempt(status=500)))

    assert rows(rejections) == []


def test_after_five_minutes_they_are_forgotten(rejections, clock):
    rejections.observe(spent())
    clock.now += 290
    rejections.observe(spent())
    clock.now += 20

    assert rows(rejections) == [("budget", "rejected_by_policy", 1, "the monthly limit is spent")]
    clock.now += 300
    assert rows(rejections) == []


def test_the_number_of_kinds_is_limited(rejections):
    for number in range(2 * MAX_KINDS):
        rejections.observe(make_outcome(rejected_by=f"stage-{number}", rejected_because="no"))

    assert len(rows(rejections)) <= MAX_KINDS + 1
    assert sum(count for _, _, count, _ in rows(rejections)) == 2 * MAX_KINDS


def test_the_refusals_of_workers_are_added_up_with_the_last_reason(clock):
    one, two = RecentRejections(clock=clock), RecentRejections(clock=clock)
    one.observe(msgspec.structs.replace(spent("last"), received_at=20.0))
    two.observe(msgspec.structs.replace(spent("first"), received_at=10.0))
    two.observe(make_outcome(status=404, code="model_not_found", error_message="Model 'x' not found."))

    merged = merge_rejections([one.last_five_minutes(), two.last_five_minutes()])

    assert [(r.by, r.requests, r.reason) for r in merged] == [("budget", 2, "last"), (None, 1, "Model 'x' not found.")]
