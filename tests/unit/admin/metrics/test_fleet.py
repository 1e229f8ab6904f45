"""Metrics of the fleet and of its probes."""

import pytest

from nexus.admin.metrics.fleet import FleetMetrics
from nexus.domain.backend import Breaker, Status
from nexus.domain.backend_load import BackendLoad
from nexus.domain.engine_report import EngineReport
from nexus.domain.model import ModelFacts
from nexus.fleet.kinds import KINDS
from nexus.fleet.loads.counts import ReadCounts, ReadResult
from nexus.fleet.probing.counts import ProbeCounts
from nexus.fleet.probing.result import Failure, Success
from nexus.testing.builders import MODEL, make_backend, make_fleet


@pytest.fixture
def probes():
    return ProbeCounts()


def told(fleet, probes, name, reads=None):
    reads = reads or ReadCounts()
    (family,) = [family for family in FleetMetrics(lambda: fleet, probes, reads).families() if family.name == name]
    return dict(family.rows)


def test_the_fleet_is_counted(probes):
    fleet = make_fleet(
        make_backend("a", models=("x", "y")),
        make_backend("b", models=("y",), discovery_source="local"),
        make_backend("c", models=("z",), status=Status.UNHEALTHY),
    )

    assert told(fleet, probes, "nexus_backends_total") == {(): 3}
    assert told(fleet, probes, "nexus_backends_healthy") == {(): 2}
    assert told(fleet, probes, "nexus_models_available") == {(): 2}
    assert told(fleet, probes, "nexus_backends_by_source") == {("local",): 1, ("static",): 2}


def test_a_model_that_no_backend_can_serve_now_is_zero(probes):
    fleet = make_fleet(
        make_backend("a", models=("x", "y")),
        make_backend("b", models=("y",)),
        make_backend("c", models=("z",), status=Status.UNHEALTHY),
    )

    assert told(fleet, probes, "nexus_model_backends_healthy") == {("x",): 1, ("y",): 2, ("z",): 0}


def test_a_backend_is_in_one_state_at_a_time(probes):
    fleet = make_fleet(make_backend("a", status=Status.DRAINING, breaker=Breaker.HALF_OPEN))

    statuses = told(fleet, probes, "nexus_backend_status")
    states = told(fleet, probes, "nexus_breaker_state")

    assert statuses == {("a", status): int(status == "draining") for status in Status}
    assert states == {("a", state): int(state == "half_open") for state in Breaker}


def test_running_requests_are_shown_beside_the_limit(probes):
    fleet = make_fleet(make_backend("a", max_in_flight=8, load=BackendLoad(in_flight=3)))

    assert told(fleet, probes, "nexus_pending_requests") == {("a",): 3}
    assert told(fleet, probes, "nexus_backend_max_in_flight") == {("a",): 8}


def test_a_limit_for_the_model_in_use_is_the_one_in_effect(probes):
    load = BackendLoad()
    load.model(MODEL).in_flight = 4
    backend = make_backend("a", models=[ModelFacts(name=MODEL, max_in_flight=4)], max_in_flight=1024, load=load)

    assert told(make_fleet(backend), probes, "nexus_backend_effective_limit") == {("a",): 4}


def test_probes_are_counted_and_timed(probes):
    probes.note("a", Success(kind=KINDS["vllm"], latency_ms=20, models={}))
    probes.note("a", Failure("refused"))

    assert told(make_fleet(), probes, "nexus_probes") == {("a", "success"): 1, ("a", "failure"): 1}
    assert told(make_fleet(), probes, "nexus_backend_latency_seconds")["a",].sum == 0.02


def test_gauges_of_a_backend_that_left_are_gone(probes):
    assert told(make_fleet(), probes, "nexus_pending_requests") == {}


def test_discovered_servers_are_counted_by_source_and_state(probes):
    counts = {("mdns", "pending"): 2, ("mdns", "rejected"): 0}

    metrics = FleetMetrics(make_fleet, probes, ReadCounts(), lambda: counts)
    families = {family.name: family for family in metrics.families()}

    assert dict(families["nexus_discovered_servers"].rows) == counts


def test_reports_of_engines_are_shown_as_far_as_they_go(probes):
    full, partial, none = BackendLoad(), BackendLoad(), BackendLoad()
    full.tell(EngineReport(at=1.0, due_at=3.0, running=3, waiting=2, kv_usage=0.5))
    partial.tell(EngineReport(at=1.0, due_at=3.0, running=1))
    fleet = make_fleet(make_backend("a", load=full), make_backend("b", load=partial), make_backend("c", load=none))

    assert told(fleet, probes, "nexus_backend_reported_requests") == {
        ("a", "running"): 3,
        ("a", "waiting"): 2,
        ("b", "running"): 1,
    }
    assert told(fleet, probes, "nexus_backend_reported_kv_usage_ratio") == {("a",): 0.5}
    assert told(fleet, probes, "nexus_backend_report_age_seconds").keys() == {("a",), ("b",)}


def test_restarts_are_counted(probes):
    load = BackendLoad()
    load.restarted()

    assert told(make_fleet(make_backend("a", load=load)), probes, "nexus_backend_restarts") == {("a",): 1}


def test_reads_of_reports_are_counted_by_result(probes):
    reads = ReadCounts()
    reads.note("a", ReadResult.SUCCESS)
    reads.note("a", ReadResult.ABSENT)

    counted = told(make_fleet(), probes, "nexus_load_reads", reads)

    assert counted == {("a", "success"): 1, ("a", "absent"): 1}
