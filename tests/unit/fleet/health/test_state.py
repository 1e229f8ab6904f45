import pytest

from nexus.config.schema import HealthCheckConfig
from nexus.domain.backend import Status
from nexus.fleet.health.state import HealthState

CONFIG = HealthCheckConfig()


def after(events, state=None):
    state = state or HealthState()
    for event in events:
        state = state.after_success(CONFIG) if event == "+" else state.after_failure(CONFIG)
    return state


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ("", Status.UNKNOWN),
        ("+", Status.HEALTHY),
        ("-", Status.UNHEALTHY),
        ("+--", Status.HEALTHY),
        ("+---", Status.UNHEALTHY),
        ("+--+--", Status.HEALTHY),
        ("-+", Status.UNHEALTHY),
        ("-++", Status.HEALTHY),
        ("-+-+", Status.UNHEALTHY),
    ],
)
def test_probes_one_after_another_make_a_status(events, status):
    assert after(events).status is status


def test_draining_never_changes_by_itself():
    state = HealthState(Status.DRAINING)

    assert after("+++", state).status is Status.DRAINING
    assert after("----", state).status is Status.DRAINING
    assert state.after_refusal().status is Status.DRAINING


def test_a_refused_request_demotes_at_once_and_recovery_takes_its_two_probes():
    refused = after("+++").after_refusal()

    assert refused.status is Status.UNHEALTHY
    assert after("+", refused).status is Status.UNHEALTHY
    assert after("++", refused).status is Status.HEALTHY


@pytest.mark.parametrize(("events", "seconds"), [("+", 30), ("+-", 3), ("+-+", 30)])
def test_a_state_that_may_change_is_probed_sooner(events, seconds):
    assert after(events).next_probe_in_s(CONFIG) == seconds


@pytest.mark.parametrize("events", ["", "-", "+---", "+----", "+" + "-" * 99])
def test_a_backend_that_cannot_be_used_is_probed_every_second_however_long_that_lasts(events):
    assert after(events).next_probe_in_s(CONFIG) == 1


def test_a_success_that_does_not_make_a_backend_healthy_yet_is_soon_followed_by_another_probe():
    assert after("-+").next_probe_in_s(CONFIG) == 0.25


def test_soon_is_never_less_than_a_second_unless_the_interval_is():
    state = after("+-")

    assert state.next_probe_in_s(HealthCheckConfig(interval_seconds=5)) == 1
    assert state.next_probe_in_s(HealthCheckConfig(interval_seconds=0.2)) == 0.2


def test_a_busy_backend_keeps_its_status_and_is_probed_again_soon():
    busy = after("+--").after_busy()

    assert (busy.status, busy.failures, busy.is_busy) == (Status.HEALTHY, 2, True)
    assert after("+").after_busy().next_probe_in_s(CONFIG) == 3
    assert not after("+", busy).is_busy


@pytest.mark.parametrize(("events", "status"), [("+", Status.HEALTHY), ("-", Status.UNHEALTHY)])
def test_one_probe_decides_about_a_backend_that_was_loading(events, status):
    loading = after("+---").after_loading()

    assert (loading.status, after(events, loading).status) == (Status.LOADING, status)
    assert HealthState(Status.DRAINING).after_loading().status is Status.DRAINING


def test_without_health_checks_a_backend_is_probed_again_soon_for_its_models():
    unwatched = HealthCheckConfig(enabled=False)

    assert HealthState(Status.HEALTHY).next_probe_in_s(unwatched) == CONFIG.interval_seconds / 10
