"""What engines report of other clients decides where requests go, and counts no more once it is old."""

import http.client
import json
from collections import Counter
from contextlib import ExitStack, closing, contextmanager

import openai
import pytest

from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

CONFIG = """
[health_check]
interval_seconds = 0.5
timeout_seconds = 1.0
load_interval_seconds = 0.1
"""
OTHERS = 6
"""Requests of other clients."""


@pytest.fixture
def pair(simulate, start_nexus):
    """A proxy, and two equal servers that are found under the same name."""
    busy, spare = (
        simulate(name=name, kind="vllm", concurrency=16, tokens_per_s=100.0, answer_tokens=6000)
        for name in ("busy", "spare")
    )
    nexus = start_nexus(CONFIG + table_of(busy) + table_of(spare))
    until(lambda: all(row["reported"] for row in rows(nexus).values()))
    return nexus, busy, spare


def rows(nexus):
    return {row["name"]: row for row in ask(nexus.url, "/admin/backends").json()["backends"]}


@contextmanager
def other_clients(simulator):
    """Let other clients hold requests at the server, of which Nexus sees nothing."""
    body = json.dumps(chat(stream=True))
    with ExitStack() as leaving:
        for _ in range(OTHERS):
            connection = http.client.HTTPConnection(simulator.url.removeprefix("http://"), timeout=20)
            leaving.enter_context(closing(connection))
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            assert connection.getresponse().status == 200
        yield


def where(nexus, times):
    """Send requests one after the other, and count where they went."""
    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client:
        create = client.chat.completions.with_raw_response.create
        return Counter(create(**chat(max_tokens=1)).headers["X-Nexus-Backend"] for _ in range(times))


def notes(nexus):
    """Return what the explanation says of each backend."""
    told = ask(nexus.url, "/v1/route/explain", chat()).json()
    return {
        note["backend"]: note["text"] for note in told["rounds"][0]["models"][0]["notes"] if note["stage"] == "schedule"
    }


@pytest.mark.timeout(90)
def test_requests_go_where_other_clients_do_not(pair):
    nexus, busy, _ = pair
    with other_clients(busy):
        until(lambda: rows(nexus)["busy"]["reported"]["running"] == OTHERS)

        assert where(nexus, 20) == {"spare": 20}
        assert f"reported {OTHERS} running, 0 waiting" in notes(nexus)["busy"]

    until(lambda: rows(nexus)["busy"]["reported"]["running"] == 0)
    assert len(where(nexus, 20)) == 2


@pytest.mark.timeout(90)
def test_a_report_that_is_too_old_does_not_count(pair):
    nexus, busy, _ = pair
    busy.engine.claims.running = 50
    until(lambda: rows(nexus)["busy"]["reported"]["running"] == 50)
    assert where(nexus, 10) == {"spare": 10}

    busy.engine.claims.is_stalled = True
    until(lambda: rows(nexus)["busy"]["reported"]["weight"] == 0, within_s=30)

    assert "too old, only requests of Nexus count" in rows(nexus)["busy"]["report"]
    assert "too old, only requests of Nexus count" in notes(nexus)["busy"]
    assert rows(nexus)["busy"]["status"] == "healthy"
    assert where(nexus, 20)["busy"] > 0

    busy.engine.claims.is_stalled = False
    until(lambda: rows(nexus)["busy"]["reported"]["weight"] == 1.0)
    assert where(nexus, 10) == {"spare": 10}


def test_an_engine_without_a_page_costs_nothing_but_its_report(simulate, start_nexus):
    silent = simulate(name="silent", kind="sglang", hidden_pages=("/metrics", "/v1/loads"))
    nexus = start_nexus(CONFIG + table_of(silent))

    until(lambda: "start it with --enable-metrics" in rows(nexus)["silent"]["report"])

    assert where(nexus, 3) == {"silent": 3}
    assert "only requests of Nexus count (start it with --enable-metrics, or update it; /v1" in notes(nexus)["silent"]
    assert len(silent.received("/metrics")) == 1


def test_a_restart_of_the_engine_is_noticed(pair):
    nexus, busy, _ = pair
    assert where(nexus, 4)

    busy.engine.begin()

    until(lambda: rows(nexus)["busy"]["restarts"] == 1)
    assert rows(nexus)["spare"]["restarts"] == 0


def test_reads_can_be_switched_off(simulate, start_nexus):
    server = simulate(name="quiet", kind="vllm")
    nexus = start_nexus("[health_check]\ninterval_seconds = 0.2\nload_interval_seconds = 0\n" + table_of(server))
    assert where(nexus, 3) == {"quiet": 3}

    until(lambda: len(server.received("/health")) > 3)

    assert server.received("/metrics") == ()
    assert "load_interval_seconds is 0" in rows(nexus)["quiet"]["report"]


def test_the_metrics_show_the_reports(pair):
    nexus, busy, _ = pair
    busy.engine.claims.waiting = 7

    def page():
        text = ask(nexus.url, "/metrics").body.decode()
        return text if 'nexus_backend_reported_requests{backend="busy",state="waiting"} 7' in text else ""

    text = until(page)

    assert 'nexus_load_reads_total{backend="busy",result="success"}' in text
    assert 'nexus_backend_report_age_seconds{backend="busy"}' in text
    assert 'nexus_backend_reported_kv_usage_ratio{backend="busy"}' in text
    assert 'nexus_backend_restarts_total{backend="busy"} 0' in text
