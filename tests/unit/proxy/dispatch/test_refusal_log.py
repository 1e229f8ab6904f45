"""A flood of refused requests is counted, and logged in few lines."""

import pytest
from structlog.testing import capture_logs

from nexus.proxy.dispatch import refusal_log as refusals
from nexus.proxy.dispatch.refusal_log import RefusalLog
from tests.support.fakes import FakeClock


@pytest.fixture
def clock(monkeypatch):
    clock = FakeClock(1000.0)
    monkeypatch.setattr(refusals, "time", clock)
    return clock


@pytest.fixture
def counted():
    return []


@pytest.fixture
def refusal_log(clock, counted):
    return RefusalLog(counted.append)


def test_each_refusal_is_counted_and_one_is_logged(refusal_log, counted):
    with capture_logs() as lines:
        for number in range(1000):
            refusal_log.note("10.0.0.1", "bad_request", f"req-{number}")

    assert len(counted) == 1000
    assert lines == [
        {
            "event": "request_refused",
            "log_level": "info",
            "remote": "10.0.0.1",
            "code": "bad_request",
            "path": "",
            "request_id": "req-0",
            "unsaid_before": 0,
        }
    ]


def test_the_clients_own_request_id_is_logged_too(refusal_log):
    with capture_logs() as lines:
        refusal_log.note("10.0.0.1", "bad_request", "req-1", "mine")

    assert [(line["request_id"], line["client_request_id"]) for line in lines] == [("req-1", "mine")]


@pytest.mark.parametrize(
    ("target", "path"), [("/v1/models?key=sesame", "/v1/models"), ("/" * 5000, "/" * 200)], ids=["query", "long"]
)
def test_the_path_is_logged_without_its_query_which_may_hold_a_key(refusal_log, target, path):
    with capture_logs() as lines:
        refusal_log.note("10.0.0.1", "bad_request", "req-1", target=target)

    assert [line["path"] for line in lines] == [path]


def test_the_next_line_says_how_many_were_not_logged(refusal_log, clock):
    with capture_logs() as lines:
        for _ in range(5):
            refusal_log.note("10.0.0.1", "bad_request", "req-1")
        clock.now += refusals.WINDOW_S
        refusal_log.note("10.0.0.1", "bad_request", "req-2")

    assert [line["unsaid_before"] for line in lines] == [0, 4]


def test_each_client_has_lines_of_its_own(refusal_log):
    with capture_logs() as lines:
        for remote in ("10.0.0.1", "10.0.0.2"):
            refusal_log.note(remote, "bad_request", "req-1")

    assert [line["remote"] for line in lines] == ["10.0.0.1", "10.0.0.2"]


def test_the_number_of_remembered_clients_is_limited(refusal_log):
    with capture_logs():
        for number in range(refusals.MAX_CLIENTS * 3):
            refusal_log.note(f"client-{number}", "bad_request", "req-1")

    assert len(refusal_log._clients) <= refusals.MAX_CLIENTS
