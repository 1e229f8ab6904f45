"""A backend that loads a model says so: in a header, and with comments in a stream whose client reads events."""

import http.client
import json
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import anthropic
import ollama
import openai
import pytest

from nexus.simulator import Refuse, SimulatedModel
from nexus.testing.client import ask
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

QUESTION = [{"role": "user", "content": "hello there"}]
SOON = """
[timeouts]
loading_comments_after_seconds = 0.3
[health_check]
interval_seconds = 0.5
load_interval_seconds = 0.5
"""


def models_of(nexus, name):
    rows = ask(nexus.url, "/admin/backends").json()["backends"]
    return {model["id"]: model for row in rows if row["name"] == name for model in row["models"]}


def knows_memory(nexus, name, memory="not in memory"):
    """Wait until the proxy has been told what is in memory."""
    until(lambda: memory in {model["memory"] for model in models_of(nexus, name).values()})


@pytest.fixture
def mac(simulate):
    return simulate(name="mac", kind="ollama", models=("llama3", "qwen3"), load_s=1.5)


@pytest.fixture
def nexus(start_nexus, mac):
    running = start_nexus(SOON + table_of(mac))
    knows_memory(running, "mac")
    return running


def raw_stream(nexus, body, path="/v1/chat/completions"):
    """Return head, and the pieces of the body with the time of their arrival."""
    with closing(http.client.HTTPConnection("127.0.0.1", nexus.port, timeout=20)) as connection:
        began = time.monotonic()
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        head_s = time.monotonic() - began
        try:
            text = response.read()
        except http.client.IncompleteRead as exc:
            text = exc.partial
        return response, head_s, text


def chat(model="llama3", **more):
    return {"model": model, "messages": QUESTION, **more}


def test_the_head_of_an_answer_says_that_the_model_had_to_be_loaded(nexus):
    cold, _, _ = raw_stream(nexus, chat())
    warm, _, _ = raw_stream(nexus, chat())
    native, _, _ = raw_stream(nexus, chat("qwen3", stream=True), "/api/chat")

    assert cold.getheader("X-Nexus-Loading") in {"llama3:latest; seconds=1", "llama3:latest; seconds=2"}
    assert warm.getheader("X-Nexus-Loading") is None
    assert native.getheader("X-Nexus-Loading", "").startswith("qwen3:latest; seconds=")


def test_ollama_s_own_time_is_told_where_its_memory_was_not_known(start_nexus, mac):
    nexus = start_nexus("[health_check]\nload_interval_seconds = 0\n" + table_of(mac))

    whole, _, _ = raw_stream(nexus, chat(stream=False), "/api/chat")
    streamed, _, _ = raw_stream(nexus, chat("qwen3", stream=True), "/api/chat")

    assert whole.getheader("X-Nexus-Loading") in {"llama3:latest; seconds=1", "llama3:latest; seconds=2"}
    assert streamed.getheader("X-Nexus-Loading") is None
    until(lambda: (models_of(nexus, "mac")["qwen3:latest"]["load_s"] or 0) >= 1.4)


@pytest.mark.parametrize(
    ("kind", "model"),
    [("lmstudio", SimulatedModel("llama3")), ("llamacpp", SimulatedModel("llama3", status="unloaded"))],
)
def test_other_kinds_that_load_models_are_told_apart_by_what_they_report(start_nexus, simulate, kind, model):
    loader = simulate(name="loader", kind=kind, models=(model,), load_s=1.2)
    nexus = start_nexus(SOON + table_of(loader))
    knows_memory(nexus, "loader")

    cold, _, text = raw_stream(nexus, chat(stream=True))
    until(lambda: models_of(nexus, "loader")["llama3"]["memory"] == "in memory")
    warm, _, _ = raw_stream(nexus, chat())

    assert cold.getheader("X-Nexus-Loading") == "llama3; seconds=0"
    assert b": loading llama3 on loader" in text
    assert warm.getheader("X-Nexus-Loading") is None


def test_a_llamacpp_that_loads_its_model_at_its_start_is_served_once_it_is_ready(start_nexus, simulate):
    llama = simulate(name="llama", kind="llamacpp", models=("llama3",), load_s=6.0)
    nexus = start_nexus(SOON + table_of(llama))

    told = ask(nexus.url, "/v1/chat/completions", chat())

    assert told.status == 503
    until(lambda: ask(nexus.url, "/v1/chat/completions", chat()).status == 200, within_s=10)


def test_a_client_of_http_1_0_gets_the_comments_without_chunks(nexus):
    request = b"POST /v1/chat/completions HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    body = json.dumps(chat(stream=True)).encode()
    with socket.create_connection(("127.0.0.1", nexus.port), timeout=20) as client:
        client.sendall(b"%bContent-Length: %d\r\n\r\n%b" % (request, len(body), body))
        head, _, text = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")

    assert b"X-Nexus-Loading: llama3:latest; seconds=0" in head
    assert b"Transfer-Encoding" not in head
    assert text.startswith(b": loading llama3:latest on mac, 0 s so far\n\n")
    assert text.endswith(b"data: [DONE]\n\n")


def test_a_proxy_that_is_stopped_while_a_model_is_loaded_says_so(start_nexus, simulate):
    slow = simulate(name="slow", kind="ollama", load_s=30.0)
    nexus = start_nexus("[server]\ndrain_timeout_seconds = 0.5\n" + SOON + table_of(slow))
    knows_memory(nexus, "slow")

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(raw_stream, nexus, chat(stream=True))
        until(lambda: "\nnexus_early_heads_total 1" in ask(nexus.url, "/metrics").body.decode())
        nexus.send(signal.SIGTERM)
        response, _, text = asked.result()

    assert response.status == 200
    assert b"shutting down" in text
    assert b"[DONE]" not in text


def test_a_client_of_events_is_sent_the_head_and_comments_while_a_model_is_loaded(nexus):
    response, head_s, text = raw_stream(nexus, chat(stream=True))

    assert response.status == 200
    assert head_s < 1.2
    assert response.getheader("X-Nexus-Backend") == "mac"
    assert response.getheader("X-Nexus-Loading") == "llama3:latest; seconds=0"
    assert response.getheader("Content-Type").startswith("text/event-stream")
    assert text.startswith(b": loading llama3:latest on mac, 0 s so far\n\n")
    assert text.endswith(b"data: [DONE]\n\n")
    assert "\nnexus_early_heads_total 1" in ask(nexus.url, "/metrics").body.decode()


def test_a_warm_answer_begins_with_its_own_head(nexus):
    raw_stream(nexus, chat())

    response, _, text = raw_stream(nexus, chat(stream=True))

    assert response.getheader("X-Nexus-Loading") is None
    assert b": loading" not in text


def test_the_lines_of_ollama_get_no_comment(nexus):
    client = ollama.Client(nexus.url)

    said = "".join(part.message.content for part in client.chat("llama3", QUESTION, stream=True))
    client.close()

    assert "you said hello there" in said


def test_the_libraries_read_such_a_stream_as_any_other(nexus):
    with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client:
        chunks = list(client.chat.completions.create(model="llama3", messages=QUESTION, stream=True))
    with (
        anthropic.Anthropic(base_url=nexus.url, api_key="unused", max_retries=0) as client,
        client.messages.stream(model="qwen3", max_tokens=64, messages=QUESTION) as stream,
    ):
        said = "".join(stream.text_stream)

    assert "you said hello there" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert "you said hello there" in said


def test_a_load_that_fails_after_the_head_is_an_error_event(nexus, mac):
    mac.engine.memory.failures_left = 10

    with (
        openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client,
        pytest.raises(openai.APIError) as told,
    ):
        list(client.chat.completions.create(model="llama3", messages=QUESTION, stream=True))
    with (
        anthropic.Anthropic(base_url=nexus.url, api_key="unused", max_retries=0) as client,
        pytest.raises(anthropic.APIStatusError) as told_too,
    ):
        list(client.messages.create(model="qwen3", max_tokens=64, messages=QUESTION, stream=True))

    assert "could not be loaded" in str(told.value)
    assert "could not be loaded" in str(told_too.value)


def test_after_the_head_another_backend_takes_over_from_one_whose_load_fails(start_nexus, simulate, mac):
    spare = simulate(name="spare", kind="ollama", models=("llama3",), load_s=0.2)
    nexus = start_nexus(SOON + table_of(mac, priority=0) + table_of(spare, priority=100))
    knows_memory(nexus, "mac")
    knows_memory(nexus, "spare")
    mac.engine.memory.failures_left = 1

    response, _, text = raw_stream(nexus, chat(stream=True))

    assert response.status == 200
    assert response.getheader("X-Nexus-Backend") == "mac"
    assert b'"spare' in text
    assert b"error" not in text
    assert text.endswith(b"data: [DONE]\n\n")


def test_a_connection_that_is_cut_while_loading_is_an_error_event(nexus, mac):
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(raw_stream, nexus, chat(stream=True))
        until(lambda: mac.engine.memory.loading is not None)
        time.sleep(0.6)
        mac.faults.set(Refuse(for_s=5, kills_active=True))
        response, _, text = asked.result()

    assert response.status == 200
    assert b": loading" in text
    assert b'"error"' in text
    assert b"[DONE]" not in text


def test_the_record_of_a_failed_load_has_the_error_and_the_status_that_was_sent(nexus, mac):
    mac.engine.memory.failures_left = 10

    raw_stream(nexus, chat(stream=True))
    row = ask(nexus.url, "/v1/history").json()[0]

    assert row["status_code"] == 200
    assert row["result"] == "truncated"
    assert "could not be loaded" in row["error_message"]


def test_a_client_that_leaves_while_a_model_is_loaded_frees_everything(nexus, mac):
    with closing(http.client.HTTPConnection("127.0.0.1", nexus.port, timeout=20)) as connection:
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(chat(stream=True)), {"Content-Type": "application/json"}
        )
        assert connection.getresponse().status == 200

    until(lambda: ask(nexus.url, "/admin/backends").json()["backends"][0]["pending_requests"] == 0)
    until(lambda: mac.active == 0)


def test_a_client_that_leaves_between_two_comments_is_noticed_at_once(start_nexus, simulate):
    slow = simulate(name="slow", kind="ollama", models=("llama3",), load_s=4.0)
    nexus = start_nexus(SOON + table_of(slow))
    knows_memory(nexus, "slow")
    body = json.dumps(chat(stream=True)).encode()
    with socket.create_connection(("127.0.0.1", nexus.port), timeout=20) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n")
        client.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        received = b""
        while b": loading llama3" not in received:
            received += client.recv(65536)

    until(lambda: not ask(nexus.url, "/admin/backends").json()["backends"][0]["pending_requests"], within_s=1.5)
    (row,) = nexus.wait_for_log("exchange_finished")
    assert row["ending"] == "client_left"
    assert row["bytes_out"] == len(b": loading llama3:latest on slow, 0 s so far\n\n")


def test_the_load_time_is_measured_and_shown(nexus):
    raw_stream(nexus, chat())

    until(lambda: models_of(nexus, "mac")["llama3:latest"]["memory"] == "in memory")
    load_s = models_of(nexus, "mac")["llama3:latest"]["load_s"]

    assert 1.4 <= load_s <= 3.0


def test_a_warm_backend_is_preferred_to_a_better_one_that_would_have_to_load(start_nexus, simulate, mac):
    desk = simulate(name="desk", kind="ollama", models=("llama3",))
    nexus = start_nexus(SOON + table_of(mac, priority=0) + table_of(desk, priority=100))
    knows_memory(nexus, "mac")
    knows_memory(nexus, "desk", "in memory")

    response, _, _ = raw_stream(nexus, chat())
    body = chat() | {"endpoint": "/v1/chat/completions"}
    explained = ask(nexus.url, "/v1/route/explain", json.dumps(body).encode())

    assert response.getheader("X-Nexus-Backend") == "desk"
    assert "must load llama3:latest first" in explained.body.decode()


@pytest.mark.parametrize(
    ("config", "headers"),
    [("[queue]\nenabled = false\n", {}), ("[queue]\nmax_size = 0\n", {}), ("", {"X-Nexus-Queue-Timeout": "0.1"})],
)
def test_a_request_that_may_not_wait_for_a_swap_is_sent_at_once(start_nexus, simulate, config, headers):
    small = simulate(name="small", kind="ollama", models=("llama3", "qwen3"), load_s=0.1, max_loaded=1, ttft_s=1.0)
    nexus = start_nexus(config + SOON + table_of(small, max_loaded_models=1))
    knows_memory(nexus, "small")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(raw_stream, nexus, chat("qwen3"))
        until(lambda: small.active > 0)
        time.sleep(0.3)
        told = ask(nexus.url, "/v1/chat/completions", chat(), headers=headers)

    assert first.result()[0].status == 200
    assert told.status == 200


def test_two_models_that_do_not_fit_together_are_not_loaded_by_turns(start_nexus, simulate):
    small = simulate(name="small", kind="ollama", models=("llama3", "qwen3"), load_s=0.3, max_loaded=1, ttft_s=0.1)
    nexus = start_nexus(SOON + table_of(small, max_loaded_models=1))
    knows_memory(nexus, "small")

    with ThreadPoolExecutor(8) as pool:
        turns = ["llama3", "qwen3"] * 12
        statuses = list(pool.map(lambda model: raw_stream(nexus, chat(model))[0].status, turns))

    assert statuses == [200] * 24
    assert small.engine.memory.loads <= 8
    metrics = ask(nexus.url, "/metrics").body.decode()
    assert float(re.search(r'^nexus_model_swaps_postponed_total{backend="small"} (.+)$', metrics, re.MULTILINE)[1]) > 0
    assert float(re.search(r'^nexus_model_loads_total{backend="small"} (.+)$', metrics, re.MULTILINE)[1]) > 0
