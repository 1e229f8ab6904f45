"""An exchange is written down as it goes, and its one line says who ended it, and where."""

from functools import partial

import msgspec
import pytest
from structlog.testing import capture_logs

from nexus.domain.outcome import AttemptOutcome, Ending, Phase
from nexus.domain.request import Requirements, TokenUsage
from nexus.proxy.exchange import record as records
from nexus.proxy.exchange.record import begin_record
from nexus.testing.builders import CHAT
from tests.support.fakes import FakeClock


@pytest.fixture
def clock(monkeypatch):
    clock = FakeClock(1000.0)
    monkeypatch.setattr(records, "time", FakeClock(1_700_000_000.5))
    monkeypatch.setattr(records, "monotonic", clock)
    return clock


@pytest.fixture
def record(clock):
    return begin_record("req-1", CHAT)


def attempt_at(backend, usage=None):
    return AttemptOutcome(backend=backend, backend_id=backend, model="llama3", ending=Ending.FINISHED, usage=usage)


def finished(record, *attempts):
    """Return the outcome and the line."""
    with capture_logs() as lines:
        outcome = record.finish(attempts)
    (line,) = lines
    return outcome, line


def test_a_whole_exchange_is_told_in_full(record, clock, make_reserved):
    record.bytes_in, record.bytes_out = 10, 20
    record.enter("understand")
    record.understood(Requirements(model="gpt-4o", is_stream=True))
    record.enter("route")
    record.reserved = make_reserved(fallback_model="llama3")
    clock.now += 0.25
    record.answered(200, clock.now)
    record.enter("relay")
    clock.now += 1.0
    record.ended(Ending.FINISHED, 200)

    outcome, line = finished(record, attempt_at("gpu-1"), attempt_at("gpu-2", TokenUsage(3, 4)))

    assert (outcome.request_id, outcome.endpoint, outcome.protocol) == ("req-1", "openai.chat", "openai")
    assert (outcome.model, outcome.resolved_model, outcome.fallback_model) == ("gpt-4o", "llama3", "llama3")
    assert (outcome.duration_s, outcome.first_byte_s, outcome.received_at) == (1.25, 0.25, 1_700_000_000.5)
    assert (outcome.backend, outcome.usage, outcome.is_stream) == ("gpu-2", TokenUsage(3, 4), True)
    assert line == {
        "event": "exchange_finished",
        "log_level": "warning",
        "request_id": "req-1",
        "endpoint": "openai.chat",
        "model": "gpt-4o",
        "actual_model": "llama3",
        "backend": "gpu-2",
        "backend_type": "local",
        "status": "success",
        "status_code": 200,
        "code": None,
        "error_message": None,
        "ending": "finished",
        "result": "finished",
        "termination": "--",
        "stream": True,
        "route_reason": "capability-match",
        "attempts": 2,
        "retry_count": 1,
        "fallback_chain": ["gpu-1", "gpu-2"],
        "latency_ms": 1250.0,
        "first_byte_ms": 250.0,
        "phases_ms": {"receive": 0.0, "understand": 0.0, "route": 250.0, "relay": 1000.0},
        "tokens_prompt": 3,
        "tokens_completion": 4,
        "tokens_total": 7,
        "cost_usd": None,
        "bytes_in": 10,
        "bytes_out": 20,
    }


def test_an_exchange_that_came_to_nothing_says_little(record):
    record.ended(Ending.BAD_REQUEST, 400, "invalid_json")

    outcome, line = finished(record)

    assert (outcome.model, outcome.backend, outcome.usage, outcome.first_byte_s) == (None, None, None, None)
    assert (outcome.phase, outcome.status, outcome.code) == ("receive", 400, "invalid_json")
    assert (line["backend"], line["termination"], outcome.route_reason) == ("none", "CR", None)
    assert (line["backend_type"], line["retry_count"], line["fallback_chain"]) == ("unknown", 0, [])


def test_a_failover_says_what_was_wrong_with_whom(record):
    failed = msgspec.structs.replace(attempt_at("gpu-1"), fault="status", status=503, duration_s=0.25)
    record.ended(Ending.FINISHED, 200)

    _, line = finished(record, failed, attempt_at("gpu-2"))

    assert line["failed_attempts"] == ({"backend": "gpu-1", "fault": "status", "took_ms": 250.0, "status": 503},)


LEVELS = [
    (Ending.FINISHED, 200, 1, "info"),
    (Ending.FINISHED, 422, 1, "info"),
    (Ending.CLIENT_LEFT, 499, 1, "info"),
    (Ending.CLIENT_STALLED, 200, 1, "info"),
    (Ending.BAD_REQUEST, 400, 0, "info"),
    (Ending.FINISHED, 200, 2, "warning"),
    (Ending.REJECTED, 404, 0, "warning"),
    (Ending.TIMED_OUT, 503, 0, "warning"),
    (Ending.SHUT_DOWN, 503, 1, "warning"),
    (Ending.FINISHED, 500, 1, "error"),
    (Ending.BACKEND_FAILED, 502, 3, "error"),
    (Ending.NEXUS_FAILED, 500, 1, "error"),
]


@pytest.mark.parametrize(("ending", "status", "attempts", "level"), LEVELS)
def test_the_line_is_as_loud_as_what_it_tells(record, ending, status, attempts, level):
    record.ended(ending, status)

    _, line = finished(record, *[attempt_at("gpu-1")] * attempts)

    assert line["log_level"] == level
    assert line["status"] == ("success" if (ending, status) == (Ending.FINISHED, 200) else "error")


def test_a_fallback_is_worth_a_warning(record, make_reserved):
    record.reserved = make_reserved(fallback_model="llama3")
    record.ended(Ending.FINISHED, 200)

    assert finished(record, attempt_at("gpu-1"))[1]["log_level"] == "warning"


def test_a_long_error_message_is_cut(record):
    record.ended(Ending.REJECTED, 503, "overloaded", "x" * 999)

    assert len(finished(record)[1]["error_message"]) == 257


@pytest.mark.parametrize("ending", [ending for ending in Ending if ending is not Ending.FINISHED])
@pytest.mark.parametrize("phase", Phase.__args__)
def test_two_letters_say_who_ended_it_and_where(record, ending, phase):
    record.enter(phase)
    record.ended(ending, 500)

    outcome, _ = finished(record)

    assert len(outcome.termination) == 2
    assert outcome.termination.isalpha()


@pytest.mark.parametrize(
    ("ending", "phase", "expected"),
    [
        (Ending.CLIENT_LEFT, "queue", "CQ"),
        (Ending.CLIENT_STALLED, "relay", "cD"),
        (Ending.BACKEND_FAILED, "send", "SC"),
        (Ending.BACKEND_FAILED, "await_first_byte", "SH"),
        (Ending.TIMED_OUT, "relay", "sD"),
        (Ending.REJECTED, "route", "PQ"),
        (Ending.SHUT_DOWN, "relay", "KD"),
    ],
)
def test_operators_can_search_for_them(record, ending, phase, expected):
    record.enter(phase)
    record.ended(ending, 500)

    assert finished(record)[0].termination == expected


def test_the_status_that_was_sent_counts(record, clock):
    record.answered(200, clock.now)
    record.ended(Ending.CLIENT_LEFT, 499)

    assert finished(record)[0].status == 200


def test_a_client_that_left_before_is_written_down_as_such(record):
    record.ended(Ending.CLIENT_LEFT, 499)

    assert finished(record)[0].status == 499


def test_a_phase_that_is_entered_again_is_added_up(record, clock):
    enter = record.enter
    for begin in (partial(enter, "route"), record.enter_queue, partial(enter, "send"), record.enter_queue):
        begin()
        clock.now += 0.5
    record.ended(Ending.REJECTED, 503)

    outcome, line = finished(record)

    assert outcome.queued_s == 1.0
    assert line["phases_ms"] == {"receive": 0.0, "route": 500.0, "queue": 1000.0, "send": 500.0}


def test_sums_of_times_have_no_more_digits_than_a_microsecond(record, clock):
    for _ in range(3):
        record.enter("send")
        clock.now += 0.0001
        record.enter("route")
    record.ended(Ending.REJECTED, 503)

    sent_ms = finished(record)[1]["phases_ms"]["send"]

    assert sent_ms == round(sent_ms, 3)


def test_a_defect_is_written_down_with_its_cause(record):
    error = ZeroDivisionError()

    with capture_logs() as lines:
        record.crashed(error)

    assert lines == [
        {
            "event": "exchange_crashed",
            "log_level": "error",
            "request_id": "req-1",
            "endpoint": "openai.chat",
            "exc_info": error,
        }
    ]
