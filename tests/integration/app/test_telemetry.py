"""Counters outlive reloads and backends; a reload changes only labels."""

import pytest
from prometheus_client.parser import text_string_to_metric_families as metrics_of

from nexus.app.composition.blueprint import build_blueprint
from nexus.config.loading import load
from nexus.simulator import Settings, Simulator
from nexus.testing.fleets import table_of
from nexus.testing.proxy import nexus_in_loop
from tests.support.bookkeeping import wait_until_nothing_is_held
from tests.support.raw_client import RawClient

CHAT = b'{"model":"llama3:8b","messages":[{"role":"user","content":"hi"}]}'


@pytest.fixture
async def gpus():
    async with (
        Simulator(Settings(name="gpu-1", models=("llama3:8b",))) as one,
        Simulator(Settings(name="gpu-2", models=("llama3:8b",))) as other,
    ):
        yield one, other


async def send(nexus, text):
    """Send one request, and return the body of its answer."""
    client = await RawClient.connect(nexus.port)
    client.writer.write(text)
    reply = await client.reply()
    client.leave()
    return reply.body.decode()


async def chat(nexus, body=CHAT):
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    await send(nexus, head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    await wait_until_nothing_is_held(nexus)


async def scraped(nexus):
    """All samples: by name and the values of their labels."""
    page = await send(nexus, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return {(s.name, *s.labels.values()): s.value for family in metrics_of(page) for s in family.samples}


@pytest.fixture
def reload(tmp_path):
    async def reload_with(nexus, config):
        file = tmp_path / "nexus.toml"
        file.write_text(config)
        loaded = load(file, environ={}, overrides={"server.port": str(nexus.port)})
        await nexus.reload(build_blueprint(loaded, nexus.blueprint.plugins))

    return reload_with


async def test_a_reload_changes_names_and_no_number(gpus, reload):
    config = table_of(gpus[0], type="generic")
    async with nexus_in_loop(config) as nexus:
        await chat(nexus)
        exact = await scraped(nexus)
        await reload(nexus, config + "\n[metrics]\nsanitize_labels = true\n")
        sanitized = await scraped(nexus)

    assert exact["nexus_requests_total", "llama3:8b", "gpu-1", "200", "finished"] == 1
    assert sanitized["nexus_requests_total", "llama3_8b", "gpu_1", "200", "finished"] == 1
    assert sanitized["nexus_pending_requests", "gpu_1"] == 0
    assert {name for name in sanitized if "llama3:8b" in name} == set()


async def test_a_backend_that_left_keeps_its_counters_and_loses_its_gauges(gpus, reload):
    async with nexus_in_loop(table_of(gpus[0], type="generic")) as nexus:
        await chat(nexus)
        before = await scraped(nexus)
        await reload(nexus, table_of(gpus[1], type="generic"))
        gone = await scraped(nexus)
        await reload(nexus, table_of(gpus[0], type="generic"))
        await chat(nexus)
        back = await scraped(nexus)

    counters = [
        ("nexus_requests_total", "llama3:8b", "gpu-1", "200", "finished"),
        ("nexus_attempts_total", "gpu-1"),
        ("nexus_upstream_connections_opened_total", "gpu-1"),
    ]
    assert [before[name] for name in counters] == [gone[name] for name in counters]
    assert ("nexus_pending_requests", "gpu-1") not in gone
    assert back["nexus_requests_total", "llama3:8b", "gpu-1", "200", "finished"] == 2
    assert back["nexus_probes_total", "gpu-1", "success"] > before["nexus_probes_total", "gpu-1", "success"]


async def test_an_alias_is_a_name_that_counts(gpus):
    config = table_of(gpus[0], type="generic") + '\n[routing.aliases]\n"gpt-4o" = "missing"\n'
    async with nexus_in_loop(config) as nexus:
        await chat(nexus, CHAT.replace(b"llama3:8b", b"gpt-4o"))
        await chat(nexus, CHAT.replace(b"llama3:8b", b"invented"))
        counted = await scraped(nexus)

    assert counted["nexus_errors_total", "model_not_found", "gpt-4o"] == 1
    assert counted["nexus_errors_total", "model_not_found", "other"] == 1


async def test_times_are_by_model_and_backend_from_the_reload_on_that_wants_it(gpus, reload):
    config = table_of(gpus[0], type="generic")
    async with nexus_in_loop(config) as nexus:
        await chat(nexus)
        before = await scraped(nexus)
        await reload(nexus, config + "\n[metrics]\npair_histograms = true\n")
        await chat(nexus)
        after = await scraped(nexus)

    duration, of_backend = "nexus_request_duration_seconds_count", "nexus_backend_request_duration_seconds_count"
    assert (before[duration, "llama3:8b"], before[of_backend, "gpu-1"]) == (1, 1)
    assert (after[duration, "llama3:8b", "gpu-1"], after[of_backend, "gpu-1"]) == (1, 2)
    assert (duration, "llama3:8b") not in after
