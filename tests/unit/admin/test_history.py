"""/v1/history shows the last requests with their results, and filters them."""

import asyncio

import msgspec
import pytest

from nexus.admin.history import History, HistoryEntry, route
from nexus.domain.outcome import Ending
from nexus.domain.request import TokenUsage
from nexus.domain.routes import PageRequest
from nexus.errors import RequestError
from nexus.testing.builders import MODEL, make_attempt, make_outcome
from tests.support.several_workers import several_workers

AT = 1_777_777_777.9


def asked(history, query=""):
    """What the page shows, decoded."""
    page = asyncio.run(route(history).respond(PageRequest(method="GET", path="/v1/history", query=query)))
    assert (page.status, page.content_type) == (200, "application/json")
    return msgspec.json.decode(page.body)


def ids(history, query=""):
    return [entry["request_id"] for entry in asked(history, query)]


@pytest.fixture
def history():
    return History()


@pytest.fixture
def mixed(history):
    """Four exchanges, a minute between them."""
    refused = make_attempt("gpu-1", ending=Ending.BACKEND_FAILED, fault="refused", status=None)
    for number, outcome in enumerate(
        (
            make_outcome(make_attempt("gpu-1"), request_id="well"),
            make_outcome(make_attempt("gpu-2", model="qwen3", status=404), model="qwen", request_id="unknown"),
            make_outcome(request_id="nobody"),
            make_outcome(refused, make_attempt("gpu-2"), request_id="failover"),
        )
    ):
        history.observe(msgspec.structs.replace(outcome, received_at=AT + 60 * number))
    return history


def test_an_entry_shows_the_result_of_a_request(history):
    busy = make_attempt("gpu-1", ending=Ending.BACKEND_FAILED, fault="status", status=503, duration_s=0.25)
    well = make_attempt("gpu-2", is_stream=True, usage=TokenUsage(7, 11), backend_id="id-2")
    history.observe(
        make_outcome(
            busy, well, cost_usd=0.25, request_id="r-1", received_at=AT, route_reason="failover", queued_s=0.01
        )
    )

    (entry,) = asked(history)

    assert entry == {
        "timestamp": 1_777_777_777,
        "request_id": "r-1",
        "client_request_id": None,
        "endpoint": "openai.chat",
        "model": MODEL,
        "actual_model": MODEL,
        "backend": "gpu-2",
        "backend_id": "id-2",
        "status": "Success",
        "status_code": 200,
        "code": None,
        "error_message": None,
        "result": "finished",
        "rejected_by": None,
        "rejected_because": None,
        "ending": "finished",
        "phase": "relay",
        "stream": True,
        "route_reason": "failover",
        "fallback_model": None,
        "translated": None,
        "attempts": [
            {"backend": "gpu-1", "model": MODEL, "duration_ms": 250, "status": 503, "fault": "status"},
            {"backend": "gpu-2", "model": MODEL, "duration_ms": 500, "status": 200},
        ],
        "duration_ms": 750,
        "queued_ms": 10,
        "ttft_ms": 100.0,
        "tokens_prompt": 7,
        "tokens_completion": 11,
        "tokens_estimated": False,
        "cost_usd": 0.25,
        "bytes_in": 800,
        "bytes_out": 2000,
    }
    assert list(entry) == list(HistoryEntry.__struct_fields__)


def test_a_request_without_an_attempt_names_no_backend(history):
    history.observe(make_outcome(error_message="No healthy backend available for model 'llama3'"))

    (entry,) = asked(history)

    assert (entry["backend"], entry["backend_id"], entry["actual_model"]) == ("none", "none", None)
    assert (entry["status"], entry["code"]) == ("Error", "no_healthy_backend")
    assert entry["error_message"] == "No healthy backend available for model 'llama3'"


def test_a_stream_that_broke_is_an_error_whatever_its_status(history):
    history.observe(make_outcome(make_attempt(ending=Ending.BACKEND_FAILED), code="stream_truncated"))

    (entry,) = asked(history)

    assert (entry["status"], entry["status_code"]) == ("Error", 200)


@pytest.mark.parametrize("text", ["x" * 2000, "é" * 2000, "👩‍🚀" * 2000])
def test_long_names_are_truncated_between_characters(history, text):
    history.observe(make_outcome(model=text, error_message=text))

    (entry,) = asked(history)

    assert entry["model"] == text[:256] + "…"
    assert entry["error_message"] == text[:1024] + "…"


def test_a_name_that_is_no_unicode_breaks_nothing(history):
    history.observe(make_outcome(model="\udcff"))

    assert asked(history)[0]["model"] == "?"


def test_the_newest_come_first_and_the_oldest_are_forgotten():
    history = History(most=3, most_of_a_result=3)
    for number in range(5):
        history.observe(make_outcome(request_id=str(number)))

    assert ids(history) == ["4", "3", "2"]


def test_a_hundred_are_shown_unless_more_are_asked_for(history):
    for number in range(1100):
        history.observe(make_outcome(request_id=str(number)))

    assert (len(asked(history)), len(asked(history, "limit=1000")), len(asked(history, "limit=2"))) == (100, 1000, 2)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("model=qwen", ["unknown"]),
        ("model=qwen3", ["unknown"]),
        ("model=mistral", []),
        ("backend=gpu-2", ["failover", "unknown"]),
        ("backend=none", ["nobody"]),
        ("status=success", ["failover", "well"]),
        ("status=Error", ["nobody", "unknown"]),
        ("status=4xx", ["unknown"]),
        ("status=5xx", ["nobody"]),
        ("status=404", ["unknown"]),
        ("since=1777777900", ["failover"]),
        ("until=1777777777", ["well"]),
        ("since=2026-05-03T03:10:37Z&until=2026-05-03T05:10:37%2B02:00", ["unknown"]),
        ("since=2026-05-03T05:10:37+02:00&until=2026-05-03T03:10:37", ["unknown"]),
        ("backend=gpu-2&status=success", ["failover"]),
        ("status=success&limit=1", ["failover"]),
        ("", ["failover", "nobody", "unknown", "well"]),
    ],
)
def test_a_query_filters(mixed, query, found):
    assert ids(mixed, query) == found


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=²", "limit"),
        (f"limit={'1' * 5000}", "limit"),
        ("since=nan", "since"),
        ("limit=", "limit"),
        ("status=fine", "status"),
        ("status=²²²", "status"),
        ("since=yesterday", "since"),
        ("until=", "until"),
        ("colour=red", "colour"),
    ],
)
def test_an_invalid_query_is_refused(mixed, query, param):
    with pytest.raises(RequestError) as refused:
        asked(mixed, query)

    assert (refused.value.code, refused.value.param) == ("invalid_value", param)


def test_a_follower_gets_only_new_entries(history):
    for number in range(3):
        history.observe(make_outcome(request_id=str(number)))
    newest, _ = history.after(0, 0)
    history.observe(make_outcome(request_id="new-1"))
    history.observe(make_outcome(request_id="new-2"))

    number, entries = history.after(newest, 100)

    assert (number, [entry.request_id for entry in entries]) == (5, ["new-1", "new-2"])
    assert history.after(number, 100) == (5, [])
    assert [entry.request_id for entry in history.after(0, 1)[1]] == ["new-2"]


def flood(history, count, *, first="", **fields):
    for number in range(count):
        history.observe(make_outcome(make_attempt(), request_id=f"{first}{number}", **fields))


def test_a_flood_of_successes_does_not_push_out_the_last_failures(history):
    history.observe(make_outcome(make_attempt(ending=Ending.BACKEND_FAILED), code="stream_stalled", request_id="late"))
    flood(history, 2000)

    assert ids(history, "result=stalled") == ["late"]
    assert ids(history, "result=failure") == ["late"]
    assert len(asked(history, "limit=1000")) == 1000


def test_a_flood_of_refusals_does_not_push_out_a_stream_that_broke(history):
    history.observe(make_outcome(make_attempt(ending=Ending.BACKEND_FAILED), request_id="broke"))
    for number in range(2000):
        history.observe(make_outcome(request_id=str(number)))

    assert ids(history, "result=truncated") == ["broke"]


def test_the_entries_of_each_result_are_bounded():
    history = History(most=10, most_of_a_result=5)
    for ending in Ending:
        for number in range(20):
            history.observe(make_outcome(make_attempt(ending=ending), request_id=f"{ending}-{number}"))
    flood(history, 20)

    assert len(list(history)) == 10 + 5 * 4


@pytest.mark.parametrize(
    ("query", "found"), [("result=failed,rejected", ["nobody", "unknown"]), ("result=stalled", [])]
)
def test_a_query_filters_by_result(mixed, query, found):
    assert ids(mixed, query) == found


def test_an_unknown_result_is_refused_with_a_suggestion(history):
    with pytest.raises(RequestError, match="did you mean 'truncated'"):
        asked(history, "result=truncate")


def test_an_entry_names_the_stage_that_refused_a_request_and_no_backend(history):
    history.observe(make_outcome(rejected_by="budget", rejected_because="the monthly limit is spent"))

    (entry,) = asked(history)

    assert (entry["result"], entry["rejected_by"], entry["rejected_because"], entry["backend"]) == (
        *("rejected", "budget"),
        *("the monthly limit is spent", "none"),
    )


def test_failures_of_a_busy_second_are_shown_beside_the_newest(history):
    history.observe(make_outcome(make_attempt(ending=Ending.BACKEND_FAILED), request_id="broke"))
    flood(history, 500)

    newest, told = history.after(0, 100)

    assert (newest, len(told), told[0].request_id, told[-1].request_id) == (501, 101, "broke", "499")
    assert history.after(newest, 100) == (501, [])


def test_refusals_of_a_busy_second_do_not_hide_a_stream_that_broke(history):
    history.observe(make_outcome(make_attempt(ending=Ending.BACKEND_FAILED), request_id="broke"))
    for number in range(500):
        history.observe(make_outcome(request_id=str(number)))

    _, told = history.after(0, 100)

    assert (len(told), told[0].request_id) == (101, "broke")


async def test_several_workers_show_one_history_newest_first():
    workers, histories = several_workers(3), [History() for _ in range(3)]
    pages = [route(history, peers) for history, peers in zip(histories, workers, strict=True)]
    for number in range(60):
        histories[number * number % 3].observe(make_outcome(received_at=AT + number * 10, request_id=f"r-{number}"))

    def at(page):
        return page.respond(PageRequest(method="GET", path="/v1/history", query="limit=25"))

    shown = [await at(page) for page in pages]
    workers[2].is_silent = True
    silent = await at(pages[0])

    newest = [f"r-{number}" for number in range(59, 34, -1)]
    for page in shown:
        assert [entry["request_id"] for entry in msgspec.json.decode(page.body)] == newest
        assert page.headers["X-Nexus-Workers"] == "3/3"
    assert silent.headers["X-Nexus-Workers"] == "2/3; silent=3"
