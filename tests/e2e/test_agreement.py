"""Whatever became of a request: metrics, statistics, history and the log tell the same of it, to the unit."""

import http.client
import json
import re
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_of
from prometheus_client.parser import text_string_to_metric_families as metrics_of

from nexus.domain.outcome import Result
from nexus.simulator import Settings, SimulatedModel, Simulator, in_thread
from nexus.simulator.faults import Cut, Stall, Status
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until
from tests.support.process import run_nexus

CHAT = "/v1/chat/completions"
CONFIG = """
[routing]
strategy = "priority_only"
[routing.fallbacks]
retired = ["llama3"]
[queue]
max_wait_seconds = 1.0
"""
PHASES = {"Q": {"route", "queue"}, "H": {"await_first_byte"}, "D": {"relay"}}
"""Where a client can leave, by the second letter of the termination code."""


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by name and labels."""


class Evidence(NamedTuple):
    """What was told of a few requests of every kind."""

    lines: list[dict[str, Any]]
    """Of the access log."""
    scrapes: list[Samples]
    """Before, while requests wait, and at the end."""
    openmetrics: str
    stats: dict[str, Any]
    history: list[dict[str, Any]]

    def total(self, name: str, **labels: str) -> float:
        """What all samples of that name with those labels add up to at the end."""
        samples = self.scrapes[-1].items()
        return sum(value for (sample, its), value in samples if sample == name and labels.items() <= dict(its).items())

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The same, apart by those labels."""
        summed: Counter[tuple[str, ...]] = Counter()
        for (sample, its), value in self.scrapes[-1].items():
            if sample == name:
                summed[tuple(dict(its)[label] for label in labels)] += value
        return dict(summed)


class Client:
    """Asks one proxy; some requests it leaves."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, accept: str = "") -> str:
        return ask(self.url, path, headers={"Accept": accept}).body.decode()

    def scrape(self) -> Samples:
        families = metrics_of(self.get("/metrics"))
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}

    def begin(self, body: dict[str, Any], path: str = CHAT) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=20)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return connection


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Send requests of every kind through a started proxy, and gather what it tells of them."""
    embedder = SimulatedModel("nomic-embed-text", 2048, ("embedding",))
    fast = Simulator(Settings(name="fast", models=("llama3",), tokens_per_s=500.0))
    spare = Simulator(Settings(name="spare", models=("llama3",)))
    narrow = Simulator(Settings(name="narrow", models=("tiny",)))
    laptop = Simulator(Settings(name="laptop", kind="ollama", models=("gemma", embedder)))
    with ExitStack() as running:
        running.enter_context(in_thread(fast, spare, narrow, laptop))
        config = (
            CONFIG
            + table_of(fast, type="generic", priority=0)
            + table_of(spare, type="generic", priority=99)
            + table_of(narrow, type="generic", max_in_flight=1)
            + "[backends.models.tiny]\ntools = false\n"
            + table_of(laptop)
        )
        nexus = running.enter_context(run_nexus(tmp_path_factory.mktemp("told"), config))
        client = Client(nexus.url)
        scrapes = [client.scrape()]
        count = send_everything(client, fast, spare) + pass_on_an_error(client, laptop)
        scrapes.append(let_some_wait(client, narrow))
        lines = nexus.wait_for_log("exchange_finished", count + 4)
        scrapes.append(client.scrape())
        yield Evidence(
            lines,
            scrapes,
            client.get("/metrics", "application/openmetrics-text"),
            nexus.get_json("/v1/stats"),
            nexus.get_json("/v1/history?limit=1000"),
        )


def send_everything(client: Client, fast: Simulator, spare: Simulator) -> int:
    """Send one request of each kind, and return how many of them are exchanges."""
    well = [
        (CHAT, chat()),
        (CHAT, chat(stream=True, stream_options={"include_usage": True})),
        (CHAT, chat(stream=True)),
        ("/api/chat", chat("gemma")),
        ("/api/embed", {"model": "nomic-embed-text", "input": "hi"}),
        (CHAT, chat("retired")),
    ]
    assert [ask(client.url, path, body).status for path, body in well] == [200] * len(well)
    faulty = [
        ((Status(status=400, times=1),), (), chat(), 400),
        ((Status(status=503, times=1),), (), chat(stream=True), 200),
        ((Status(status=503, times=1),), (Status(status=503, times=1),), chat(), 503),
        ((), (), chat("invented-by-a-client"), 404),
        ((), (), chat("gemma", api_key="of-another-proxy"), 400),
        ((), (), chat("tiny", tools=[{"type": "function", "function": {"name": "f"}}]), 400),
        ((), (), b"{", 400),
    ]
    for at_fast, at_spare, body, status in faulty:
        fast.faults.set(*at_fast)
        spare.faults.set(*at_spare)
        assert ask(client.url, CHAT, body).status == status
    # Three failures in a row would open the breaker.
    assert ask(client.url, CHAT, chat()).status == 200
    cut_off(client, fast)
    assert ask(client.url, "/nothing/here").status == 404
    assert ask(client.url, "/v1/embeddings", method="GET").status == 405
    return len(well) + len(faulty) + 4


def pass_on_an_error(client: Client, laptop: Simulator) -> int:
    """Let the only backend of a model fail in words of its own, and return how many exchanges that is."""
    laptop.faults.set(Status(status=503, times=1))
    assert ask(client.url, "/api/chat", chat("gemma")).status == 503
    return 1


def cut_off(client: Client, fast: Simulator) -> None:
    """Let a backend break a stream, and let clients leave in the middle of one and before one."""
    fast.faults.set(Cut(after_events=2, times=1))
    with pytest.raises(http.client.IncompleteRead) as cut:
        ask(client.url, CHAT, chat(stream=True))
    assert b"stream_truncated" in cut.value.partial
    for fault in (Stall(phase="mid_stream", after_events=2, times=1), Stall(phase="before_headers", times=1)):
        before = len(fast.requests)
        fast.faults.set(fault)
        with closing(client.begin(chat(stream=True))) as leaving:
            until(lambda before=before: len(fast.requests) > before)
            if fault.phase == "mid_stream":
                assert leaving.sock.recv(65536).startswith(b"HTTP/1.1 200")
    until(lambda: not client.scrape()["nexus_requests_in_flight", ()])


def of_two_that_wait(samples: Samples) -> Samples | None:
    """Return *samples* if two requests were in the queue, and the one at the backend had waited for a while."""
    oldest = "nexus_backend_oldest_unanswered_seconds"
    has_waited = any(value for (name, _), value in samples.items() if name == oldest)
    return samples if samples["nexus_queue_depth", ()] == 2 and has_waited else None


def let_some_wait(client: Client, narrow: Simulator) -> Samples:
    """Let requests wait for the one slot of *narrow* in vain, leave, and get it; return a scrape from between."""
    narrow.faults.set(Stall(phase="before_headers", times=1))
    with closing(client.begin(chat("tiny"))) as holding:
        until(lambda: narrow.requests and narrow.requests[-1].path == CHAT)
        with closing(client.begin(chat("tiny"))) as in_vain:
            with closing(client.begin(chat("tiny"))):
                between = until(lambda: of_two_that_wait(client.scrape()))
            assert in_vain.getresponse().read()
        with closing(client.begin(chat("tiny"))) as lucky:
            until(lambda: client.scrape()["nexus_queue_depth", ()] == 1)
            holding.close()
            assert lucky.getresponse().read()
    return between


def outcomes(lines, *fields):
    return dict(Counter(tuple(str(line[field]) for field in fields) for line in lines))


def sum_of(lines, field):
    return sum(line[field] or 0 for line in lines)


def test_every_kind_of_ending_is_there(told):
    endings = {line["ending"] for line in told.lines}

    assert endings == {"finished", "bad_request", "rejected", "backend_failed", "timed_out", "client_left"}


def test_every_request_is_counted_with_its_backend_and_status(told):
    assert told.by("nexus_requests_total", "backend", "status", "result") == outcomes(
        told.lines, "backend", "status_code", "result"
    )


def test_every_endpoint_and_mode_is_counted(told):
    counted = told.by("nexus_endpoint_requests_total", "endpoint", "stream")

    assert {(name, flag.title()): count for (name, flag), count in counted.items()} == outcomes(
        told.lines, "endpoint", "stream"
    )


def test_every_error_is_counted_by_its_code(told):
    coded = [line for line in told.lines if line["code"] is not None]

    assert told.by("nexus_errors_total", "error_type") == outcomes(coded, "code")
    assert told.total("nexus_errors_total", error_type="model_not_found", model="other") == 1


def test_durations_are_those_of_the_log(told):
    assert told.total("nexus_request_duration_seconds_count") == len(told.lines)
    assert told.total("nexus_request_duration_seconds_sum") == pytest.approx(
        sum_of(told.lines, "latency_ms") / 1000, abs=0.001
    )


def test_first_contents_are_those_of_the_streams(told):
    streams = [line for line in told.lines if line["stream"] and line["first_byte_ms"] is not None]

    assert told.total("nexus_time_to_first_token_seconds_count") == len(streams) > 0
    assert told.total("nexus_time_to_first_token_seconds_sum") == pytest.approx(
        sum_of(streams, "first_byte_ms") / 1000, abs=0.001
    )


def test_tokens_and_bytes_add_up(told):
    for type_ in ("prompt", "completion"):
        assert told.total("nexus_tokens_total", type=type_) == sum_of(told.lines, f"tokens_{type_}") > 0
        reported = [line for line in told.lines if not line.get("tokens_estimated")]
        assert told.total("nexus_tokens_total", type=type_, counted="reported") == sum_of(reported, f"tokens_{type_}")
        assert told.total("nexus_request_tokens_sum", type=type_) == sum_of(reported, f"tokens_{type_}")
    assert told.total("nexus_request_bytes_total") == sum_of(told.lines, "bytes_in") > 0
    assert told.total("nexus_response_bytes_total") == sum_of(told.lines, "bytes_out") > 0


def test_embeddings_are_counted(told):
    (line,) = [line for line in told.lines if line["endpoint"] == "ollama.embed"]

    assert told.by("nexus_embeddings_requests_total", "model") == {("nomic-embed-text:latest",): 1}
    assert told.total("nexus_embeddings_tokens_total") == line["tokens_prompt"]


def test_attempts_retries_and_failovers_add_up(told):
    retried = [line for line in told.lines if line["attempts"] > 1]

    assert told.total("nexus_attempts_total") == sum_of(told.lines, "attempts")
    assert told.by("nexus_retries_total", "reason") == {("status_503",): len(retried)}
    assert told.by("nexus_failovers_total", "reason") == {("status_503",): 1}
    assert told.by("nexus_attempt_failures_total", "backend", "fault") == {
        ("fast", "status_503"): 2,
        ("spare", "status_503"): 1,
        ("laptop", "status_503"): 1,
        ("fast", "stream_truncated"): 1,
    }
    for failures in (
        [failed for line in told.lines for failed in line.get("failed_attempts", ())],
        [tried for entry in told.history for tried in entry["attempts"] if tried.get("fault")],
    ):
        assert len(failures) == told.total("nexus_attempt_failures_total")
    assert sum(row["failed_attempts"] for row in told.stats["backends"]) == told.total("nexus_attempt_failures_total")


def test_fallbacks_are_counted(told):
    assert told.by("nexus_fallbacks_total", "from_model", "to_model") == {("retired", "llama3"): 1}


def test_clients_that_left_are_counted_where_they_left(told):
    left = [line for line in told.lines if line["ending"] == "client_left"]
    counted = told.by("nexus_client_disconnects_total", "phase")

    assert sum(counted.values()) == len(left)
    assert {phase for (phase,) in counted} == {"relay", "await_first_byte", "queue"}
    assert all(any((phase,) in counted for phase in PHASES[line["termination"][1]]) for line in left)


def test_what_was_turned_away_at_the_door_is_counted_apart(told):
    assert told.by("nexus_rejected_total", "reason") == {("not_found",): 1, ("method_not_allowed",): 1}


def test_the_queue_says_what_became_of_those_who_waited(told):
    waited = [line for line in told.lines if "queue" in line["phases_ms"]]

    assert told.total("nexus_queue_enqueued_total") == len(waited) == 3
    assert [told.total(f"nexus_queue_{end}_total") for end in ("drained", "timeout", "left")] == [1, 1, 1]
    assert told.total("nexus_queue_wait_seconds_count") == 3
    assert told.total("nexus_queue_wait_seconds_sum") == pytest.approx(
        sum(line["phases_ms"]["queue"] for line in waited) / 1000, abs=0.05
    )


def test_at_the_end_nothing_is_under_way(told):
    gauges = ("nexus_requests_in_flight", "nexus_pending_requests", "nexus_queue_depth")

    assert [told.total(gauge) for gauge in gauges] == [0, 0, 0]


def test_the_statistics_say_the_same(told):
    lines = told.lines
    whole = [line for line in lines if line["ending"] == "finished"]
    errors = {n: sum(line["status_code"] // 100 == n for line in lines) for n in (4, 5)}
    success = sum(line["status_code"] < 300 for line in whole)

    assert told.stats["requests"] == {
        "total": len(lines),
        "success": success,
        "errors": errors[4] + errors[5],
        "errors_4xx": errors[4],
        "errors_5xx": errors[5],
        "unfinished": len(lines) - success - errors[4] - errors[5],
        "results": dict.fromkeys(Result, 0) | Counter(line["result"] for line in lines),
    }
    by_backend = outcomes(lines, "backend")
    assert {row["name"]: row["requests"] for row in told.stats["backends"]} == {
        name: by_backend.get((name,), 0) for name in ("fast", "spare", "narrow", "laptop")
    }
    assert sum(row["requests"] for row in told.stats["models"]) == len(lines)
    assert sum(row["tokens_completion"] for row in told.stats["models"]) == sum_of(lines, "tokens_completion")
    assert [row["id"] for row in told.stats["backends"]] == sorted(row["id"] for row in told.stats["backends"])


def test_the_history_says_the_same(told):
    shared = ("endpoint", "backend", "code", "ending", "stream", "route_reason", "tokens_prompt", "tokens_completion")
    shared += ("request_id", "model", "status_code", "result", "bytes_in", "bytes_out")
    facts = {entry["request_id"]: entry for entry in told.history}

    assert len(told.history) == len(told.lines)
    assert [{field: facts[line["request_id"]][field] for field in shared} for line in told.lines] == [
        {field: line[field] for field in shared} for line in told.lines
    ]
    assert all(len(facts[line["request_id"]]["attempts"]) == line["attempts"] for line in told.lines)
    assert all(abs(facts[line["request_id"]]["duration_ms"] - line["latency_ms"]) <= 0.51 for line in told.lines)
    assert all(entry["error_message"] for entry in told.history if entry["code"])


def test_every_connection_was_made_or_reused(told):
    asked = sum_of(told.lines, "attempts")

    made = told.total("nexus_upstream_connections_opened_total")
    assert made + told.total("nexus_upstream_connections_reused_total") == asked


def test_examples_of_durations_are_requests_of_the_log(told):
    ids = {line["request_id"] for line in told.lines}

    exemplars = [s.exemplar for family in openmetrics_of(told.openmetrics) for s in family.samples if s.exemplar]

    assert exemplars
    assert {exemplar.labels["request_id"] for exemplar in exemplars} <= ids


SEEN_ELSEWHERE = {
    "nexus_backend_reported_kv_usage_ratio": "an engine that reports its load",
    "nexus_backend_reported_requests": "an engine that reports its load",
    "nexus_backend_restarts": "a server that restarts",
    "nexus_backend_misconfigured": "a backend that refuses its key",
    "nexus_config_reload_rejected": "a reload that is refused",
    "nexus_discovered_servers": "a server that announces itself",
    "nexus_early_heads": "a model that is loaded for long",
    "nexus_model_loads": "a server that loads models",
    "nexus_model_swaps_postponed": "models that do not fit together",
    "nexus_log_lines_dropped": "a log that cannot keep up",
    "nexus_model_breaker_state": "a model that fails again and again",
    "nexus_observer_failures": "a plugin that breaks",
    "nexus_observer_slow": "a plugin that blocks",
    "nexus_plugin_series_left_out": "a plugin whose metric is too large",
    "nexus_queue_refused": "a full queue",
    "nexus_queue_shed": "a full queue",
    "nexus_reconciler_failures": "a stage that breaks",
    "nexus_reconciler_observed": "a stage that only observes",
    "nexus_reconciler_slow": "a stage that blocks",
    "nexus_reconciler_switched_off": "a stage that breaks again and again",
    "nexus_store_failed": "a store that fails",
    "nexus_store_failures": "a store that fails",
    "nexus_traces": "traces",
    "nexus_translated_requests": "a backend of another protocol than the client's",
}
"""What moves only where something is wrong, or configured, that is not here; each has a test beside what it is of."""


def test_every_documented_metric_is_there_and_moves(told):
    page = (Path(__file__).parents[2] / "docs/reference/metrics.rst").read_text()
    rows = re.findall(r"^   \* - (``nexus_.+)$", page, re.MULTILINE)
    documented = {name.removesuffix("_total") for row in rows for name in re.findall(r"``(nexus_\w+)``", row)}

    moved = {
        re.sub(r"_(?:total|bucket|count|sum)$", "", name)
        for scrape in told.scrapes
        for (name, _), value in scrape.items()
        if value
    }
    moved |= {"nexus_backends"} & {name.removesuffix("_total") for (name, _) in told.scrapes[0]}

    assert documented - moved == set(SEEN_ELSEWHERE)


def test_every_metric_says_what_it_means(told):
    families = [family for family in openmetrics_of(told.openmetrics) if family.name.startswith("nexus_")]

    assert [family.name for family in families if not family.documentation.strip().endswith(".")] == []
    counted = [sample.name for family in families if family.type == "counter" for sample in family.samples]
    assert [name for name in counted if not name.endswith("_total")] == []


def test_no_counter_goes_back(told):
    first, between, last = told.scrapes
    is_counter = re.compile(r"nexus_(?!backends_total)\w+_(?:total|bucket|count|sum)$").match

    for earlier, later in ((first, between), (between, last)):
        assert [key for key, value in earlier.items() if is_counter(key[0]) and later.get(key, -1) < value] == []
