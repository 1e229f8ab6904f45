"""Traces, from a client's ``traceparent`` to a collector and on to the backend; and without them, nothing of them."""

import re
import subprocess
import sys
import time

import pytest

pytest.importorskip("opentelemetry.sdk")

from nexus.simulator import Status
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until
from tests.support.collector import collector

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PATH = "/v1/chat/completions"
CANARY = "canary-5b1e-sings"
OTEL = """
[otel]
enabled = true
endpoint = "{url}"
headers = {{ authorization = "env:COLLECTORS_KEY" }}
"""
ENVIRON = {"COLLECTORS_KEY": f"Bearer {CANARY}-collector"}


@pytest.fixture
def collected():
    with collector() as found:
        yield found


@pytest.fixture
def traced(simulate, start_nexus, collected):
    """Give a proxy that traces, and the servers behind it."""
    first, second = simulate(name="gpu-1", models=("llama3",)), simulate(name="gpu-2", models=("llama3",))
    config = OTEL.format(url=collected.url) + table_of(first, priority=0) + table_of(second, priority=99)
    return start_nexus(config, environ=ENVIRON), first, second


def traceparent(flags="01"):
    return {"traceparent": f"00-{TRACE}-{PARENT}-{flags}", "tracestate": "vendor=7"}


def received(simulator):
    (record,) = simulator.received(PATH)
    return record.request


def test_a_request_is_a_part_of_its_client_s_trace_and_the_backend_s_work_of_it(traced, collected):
    nexus, gpu, _ = traced

    ask(nexus.url, PATH, chat(), headers=traceparent())

    (own,) = [span for span in collected.wait_for(2, "chat llama3") if span.kind == "server"]
    (attempt,) = [span for span in collected.spans if span.kind == "client"]
    phases = [span.name for span in collected.spans if span.kind == "internal"]
    assert (own.trace_id, own.parent_id) == (TRACE, PARENT)
    assert {span.parent_id for span in collected.spans if span is not own} == {own.span_id}
    assert phases == ["receive", "understand", "route", "send", "await_first_byte", "relay", "settle"]
    assert received(gpu).header("traceparent") == f"00-{TRACE}-{attempt.span_id}-01"
    assert received(gpu).header("tracestate") == "vendor=7"


def test_its_attributes_are_those_of_the_conventions(traced, collected):
    nexus, gpu, _ = traced

    ask(nexus.url, PATH, chat())

    own, attempt = sorted(collected.wait_for(2, "chat llama3"), key=lambda span: span.kind, reverse=True)
    assert own.attributes["gen_ai.operation.name"] == "chat"
    assert own.attributes["gen_ai.usage.output_tokens"] > 0
    assert own.attributes["http.response.status_code"] == 200
    assert own.resource["service.name"] == "nexus-proxy"
    assert f"http://127.0.0.1:{attempt.attributes['server.port']}" == gpu.url
    assert collected.headers[0]["authorization"] == ENVIRON["COLLECTORS_KEY"]


def test_each_attempt_of_a_failover_has_its_span(traced, collected):
    nexus, broken, good = traced
    broken.faults.set(Status(status=503))

    ask(nexus.url, PATH, chat(stream=True), headers=traceparent())

    own, first, second = sorted(
        collected.wait_for(3, "chat llama3"), key=lambda s: (s.kind != "server", s.attributes["nexus.backend"])
    )
    assert (first.is_error, second.is_error, own.is_error) == (True, False, False)
    assert first.attributes["error.type"] == "status"
    told = [received(backend).header("traceparent").split("-")[2] for backend in (broken, good)]
    assert told == [first.span_id, second.span_id]


def test_a_client_that_does_not_sample_is_obeyed(traced, collected):
    nexus, gpu, _ = traced

    ask(nexus.url, PATH, chat(), headers=traceparent("00"))
    ask(nexus.url, PATH, chat(model="nobody-has-this"))

    collected.wait_for(1, "chat nobody-has-this")
    assert TRACE not in {span.trace_id for span in collected.spans}
    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-00", received(gpu).header("traceparent"))


def test_the_access_line_names_the_trace(traced, collected):
    nexus, *_ = traced

    ask(nexus.url, PATH, chat(), headers=traceparent())

    assert nexus.wait_for_log("exchange_finished")[0]["trace_id"] == TRACE


def test_what_waits_is_told_before_the_end(traced, collected):
    nexus, *_ = traced
    for _ in range(20):
        ask(nexus.url, PATH, chat())

    assert nexus.stop() == 0

    assert len([span for span in collected.spans if span.kind == "server"]) == 20


def test_a_collector_that_refuses_costs_nothing_but_its_traces(traced, collected):
    nexus, *_ = traced
    collected.status = 400

    assert [ask(nexus.url, PATH, chat()).status for _ in range(20)] == [200] * 20

    (line, *_) = nexus.wait_for_log("spans_not_exported")
    assert "400" in line["reason"]
    metrics = ask(nexus.url, "/metrics").body.decode()
    assert re.search(r'nexus_traces_total\{result="failed"\} [1-9]', metrics)
    assert not nexus.log_lines("library_message")


def test_a_collector_that_is_dead_slows_neither_requests_nor_the_end(simulate, start_nexus):
    gpu = simulate(models=("llama3",))
    nexus = start_nexus(OTEL.format(url="http://127.0.0.1:1") + table_of(gpu), environ=ENVIRON)

    assert [ask(nexus.url, PATH, chat()).status for _ in range(20)] == [200] * 20

    began = time.monotonic()
    assert nexus.stop() == 0
    assert time.monotonic() - began < 6


def test_no_secret_is_in_a_trace(traced, collected):
    nexus, gpu, _ = traced
    gpu.faults.set(Status(status=500, body=f'{{"error": "{CANARY}"}}', times=1))
    said = chat(text=CANARY, tools=[{"type": "function", "function": {"name": "f", "description": CANARY}}])

    ask(nexus.url, f"{PATH}?key={CANARY}", said, headers={"Authorization": f"Bearer {CANARY}", "Cookie": CANARY})
    ask(nexus.url, PATH, b'{"model": "' + CANARY.encode())
    ask(nexus.url, PATH, said | {"stream": True})
    until(lambda: len([span for span in collected.spans if span.kind == "server"]) == 3)
    nexus.stop()

    assert CANARY.encode() not in b"".join(collected.bodies)
    assert CANARY not in nexus.log_text()


def test_without_tracing_what_a_client_says_of_its_trace_passes_as_it_came(simulate, start_nexus):
    gpu = simulate(models=("llama3",))
    nexus = start_nexus(table_of(gpu))

    ask(nexus.url, PATH, chat(), headers=traceparent())

    assert {name: received(gpu).header(name) for name in ("traceparent", "tracestate")} == traceparent()
    assert "nexus_traces" not in ask(nexus.url, "/metrics").body.decode()


PROGRAM = """
import asyncio, sys
from nexus.testing.proxy import nexus_in_loop

async def main():
    async with nexus_in_loop(sys.argv[1]):
        found = sorted(name for name in sys.modules if name.partition(".")[0] in ("opentelemetry", "requests"))
        print(*found, sep="\\n", file=sys.stderr)

asyncio.run(main())
"""


@pytest.mark.parametrize(("is_on", "loads"), [("false", False), ("true", True)])
def test_nothing_of_it_is_loaded_unless_it_is_wanted(is_on, loads):
    config = f'[discovery]\nenabled = false\n[otel]\nenabled = {is_on}\nendpoint = "http://127.0.0.1:1"'

    told = subprocess.run([sys.executable, "-c", PROGRAM, config], capture_output=True, text=True, check=True)

    assert ("opentelemetry.sdk" in told.stderr.split()) is loads
    assert bool(told.stderr.split()) is loads


def test_who_wants_it_and_has_it_not_is_told_what_to_install(command, tmp_path):
    (tmp_path / "nexus.toml").write_text("[otel]\nenabled = true")
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("")

    done = command("check", PYTHONPATH=str(tmp_path))

    assert done.returncode == 78
    assert "pip install 'nexus-proxy[otel]'" in done.stderr
    assert "line 2" in done.stderr


def test_a_reload_says_that_traces_wait_for_a_restart(traced, collected):
    nexus, *_ = traced
    nexus.config_file.write_text(nexus.config_file.read_text().replace("enabled = true", "enabled = false"))

    nexus.send(1)

    (line,) = nexus.wait_for_log("reload_needs_restart")
    assert line["keys"] == ["otel"]
