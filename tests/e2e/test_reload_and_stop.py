"""What signals do: SIGHUP takes a new configuration or keeps the old one, SIGTERM lets what runs come to its end."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nexus.testing.client import ask, chat
from nexus.testing.fleets import backend_table, table_of
from nexus.testing.ports import free_port
from nexus.testing.waiting import until
from tests.support.streaming import Streaming


def reload(nexus, config, event="config_reloaded"):
    before = len(nexus.log_lines(event))
    nexus.config_file.write_text(config)
    nexus.send(signal.SIGHUP)
    return nexus.wait_for_log(event, before + 1)[-1]


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("pkill") is None, reason="another command is shown for it")
def test_the_command_that_is_shown_reaches_the_installed_script(tmp_path):
    page = Path(__file__).parents[2] / "docs/howto/reload.rst"
    command = next(line for line in page.read_text().splitlines() if "pkill" in line).rpartition("&& ")[2].split()
    script = Path(sys.executable).with_name("nexus-proxy")
    (tmp_path / "nexus.toml").write_text(f"[server]\nport = {free_port()}\n[discovery]\nenabled = false\n")

    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([script], cwd=tmp_path, stdout=log, stderr=log) as nexus,
    ):
        try:
            until(lambda: "started" in (tmp_path / "log").read_text())
            # No other proxy of this machine is meant.
            said = subprocess.run([*command, "-P", str(os.getpid())], check=False)
            is_reloaded = until(lambda: "config_reloaded" in (tmp_path / "log").read_text())
        finally:
            nexus.terminate()

    assert (said.returncode, is_reloaded, nexus.returncode) == (0, True, 0)


def test_a_new_file_adds_a_backend_and_moves_an_alias(simulate, start_nexus):
    one, two = simulate(name="gpu-1", models=("llama3",)), simulate(name="gpu-2", models=("qwen3",))
    nexus = start_nexus('[routing.aliases]\nfast = "llama3"\n' + table_of(one))
    before = ask(nexus.url, "/v1/chat/completions", chat("fast"))

    reload(nexus, '[routing.aliases]\nfast = "qwen3"\n' + table_of(one) + table_of(two))
    after = until(lambda: _ok(ask(nexus.url, "/v1/chat/completions", chat("fast"))))

    assert (before.headers["X-Nexus-Backend"], after.headers["X-Nexus-Backend"]) == ("gpu-1", "gpu-2")
    assert {row["id"] for row in nexus.get_json("/v1/models")["data"]} == {"llama3", "qwen3", "fast"}


def _ok(reply):
    return reply if reply.status == 200 else None


def test_a_stream_on_a_backend_that_is_removed_ends_as_it_began(simulate, start_nexus):
    slow, other = simulate(name="slow", tokens_per_s=15), simulate(name="other")
    nexus = start_nexus(table_of(slow, type="generic", priority=0))
    streaming = Streaming(nexus.url)

    reload(nexus, table_of(other, type="generic"))
    after = until(lambda: _ok(ask(nexus.url, "/v1/chat/completions", chat())))

    assert after.headers["X-Nexus-Backend"] == "other"
    assert streaming.end().endswith(b"data: [DONE]\n\n")
    assert streaming.is_whole


def test_what_is_known_of_a_backend_survives_a_reload(simulate, start_nexus):
    gpu = simulate()
    config = table_of(gpu)
    nexus = start_nexus(config)
    ask(nexus.url, "/v1/chat/completions", chat())
    (before,) = nexus.get_json("/admin/backends")["backends"]

    reload(nexus, config + "priority = 3\n")
    (after,) = nexus.get_json("/admin/backends")["backends"]

    assert (after["priority"], after["status"]) == (3, "healthy")
    kept = ("id", "total_requests", "avg_latency_ms", "models", "status_since")
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("[server]\nprot = 1", "prot"),
        ("this is not TOML", "nexus.toml"),
        ("[plugins.gone]\nx = 1", "[plugins.gone] belongs to no installed plugin"),
        ('[plugin_loading]\nrequired = ["curfew"]', "plugin 'curfew' is required"),
        ('[routing.aliases]\na = "b"\nb = "a"', "aliases"),
    ],
)
def test_a_bad_file_changes_nothing_and_says_so(simulate, start_nexus, config, reason):
    good = table_of(simulate())
    nexus = start_nexus(good)

    line = reload(nexus, config, event="config_rejected")
    ready = ask(nexus.url, "/ready")

    assert reason in line["reason"]
    assert ready.status == 200
    assert reason in ready.json()["detail"]["rejected_reload"]
    assert b"\nnexus_config_reload_rejected 1" in ask(nexus.url, "/metrics").body
    assert ask(nexus.url, "/v1/chat/completions", chat()).status == 200
    reload(nexus, good)
    assert nexus.get_json("/ready")["detail"]["rejected_reload"] is None
    assert b"\nnexus_config_reload_rejected 0" in ask(nexus.url, "/metrics").body


def test_what_only_a_restart_can_change_is_named(simulate, start_nexus):
    good = table_of(simulate())
    nexus = start_nexus("[timeouts]\nkeepalive_seconds = 60\n" + good)

    reload(nexus, '[timeouts]\nkeepalive_seconds = 5\n[store]\nkind = "sqlite"\n' + good)
    (line,) = nexus.wait_for_log("reload_needs_restart")

    assert line["keys"] == ["store", "timeouts.keepalive_seconds"]


def test_a_deleted_file_changes_nothing_either(simulate, start_nexus):
    nexus = start_nexus(table_of(simulate()))
    nexus.config_file.unlink()

    nexus.send(signal.SIGHUP)
    nexus.wait_for_log("config_rejected")

    assert ask(nexus.url, "/v1/chat/completions", chat()).status == 200


def test_reloads_under_load_lose_no_request(simulate, start_nexus):
    one, two = simulate(name="gpu-1"), simulate(name="gpu-2")
    both = table_of(one) + table_of(two)
    nexus = start_nexus(both)

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, nexus.url, "/v1/chat/completions", chat(stream=n % 2 == 0)) for n in range(160)]
        for config in (table_of(one), both, "nonsense", table_of(two), both):
            nexus.config_file.write_text(config)
            nexus.send(signal.SIGHUP)
            time.sleep(0.1)
        replies = [each.result() for each in asked]

    assert [reply.status for reply in replies] == [200] * 160


def test_a_running_stream_ends_in_peace_and_nobody_new_comes_in(simulate, start_nexus):
    nexus = start_nexus(table_of(simulate(tokens_per_s=15)))
    streaming = Streaming(nexus.url)
    before = Streaming(nexus.url, body=chat())

    nexus.send(signal.SIGTERM)
    nexus.wait_for_log("draining")
    until(lambda: not _listens(nexus.port))
    code = nexus.process.wait(10)

    assert streaming.end().endswith(b"data: [DONE]\n\n")
    assert json.loads(before.end())["choices"]
    assert streaming.is_whole
    assert code == 0
    endings = [line["ending"] for line in nexus.log_lines("exchange_finished")]
    assert endings == ["finished", "finished"]


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("path", "body", "last_words"),
    [
        ("/v1/chat/completions", chat(stream=True), b'"code":"server_shutdown"'),
        ("/v1/responses", {"model": "llama3", "input": "hi", "stream": True}, b'"code":"server_shutdown"'),
        ("/v1/messages", {**chat(stream=True), "max_tokens": 900}, b"event: error"),
        ("/api/chat", chat(stream=True), b'"error":'),
    ],
)
def test_a_stream_that_outlives_the_drain_time_ends_with_an_error(simulate, start_nexus, path, body, last_words):
    gpu = simulate(kind="ollama", tokens_per_s=10, answer_tokens=900)
    nexus = start_nexus("[server]\ndrain_timeout_seconds = 0.3\n" + table_of(gpu))
    streaming = Streaming(nexus.url, path, body)

    code = nexus.stop(within_s=8)

    tail = streaming.end().rstrip().splitlines()[-3:]
    assert last_words in b"\n".join(tail)
    assert not streaming.is_whole
    assert code == 0
    (line,) = nexus.log_lines("exchange_finished")
    assert (line["ending"], line["code"], line["termination"]) == ("shut_down", "server_shutdown", "KD")
    assert until(lambda: gpu.aborted)


def test_an_answer_that_never_began_is_refused_when_the_drain_time_is_over(simulate, start_nexus):
    nexus = start_nexus("[server]\ndrain_timeout_seconds = 0.3\n" + table_of(simulate(ttft_s=60)))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, nexus.url, "/v1/chat/completions", chat())
        until(lambda: nexus.get_json("/admin/backends")["backends"][0]["pending_requests"])

        code = nexus.stop(within_s=8)
        reply = asked.result()

    assert (reply.status, reply.json()["error"]["code"]) == (503, "draining")
    assert code == 0


def test_while_it_is_a_lame_duck_it_says_no_and_still_serves(simulate, start_nexus):
    nexus = start_nexus("[server]\nlame_duck_seconds = 1\n" + table_of(simulate()))

    nexus.send(signal.SIGTERM)
    nexus.wait_for_log("draining")
    ready = ask(nexus.url, "/ready")
    served = ask(nexus.url, "/v1/chat/completions", chat())

    assert (ready.status, ready.json()["ready"]) == (503, False)
    assert served.status == 200
    assert nexus.process.wait(10) == 0


def test_an_idle_connection_does_not_hold_up_the_end(simulate, start_nexus):
    nexus = start_nexus(table_of(simulate()))
    connection = http.client.HTTPConnection("127.0.0.1", nexus.port, timeout=5)
    connection.request("GET", "/health")
    connection.getresponse().read()

    began = time.monotonic()
    code = nexus.stop()
    connection.close()

    assert code == 0
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_is_a_hurry(simulate, start_nexus, number):
    nexus = start_nexus(table_of(simulate(tokens_per_s=5, answer_tokens=900)))
    streaming = Streaming(nexus.url)

    nexus.send(number)
    nexus.wait_for_log("draining")
    nexus.send(number)
    code = nexus.process.wait(12)

    assert b"server_shutdown" in streaming.end()
    assert code == 0


def test_a_client_whose_server_goes_away_can_be_told_by_another(simulate, start_nexus):
    dead = backend_table("dead", "http://127.0.0.1:9")
    nexus = start_nexus(dead + table_of(simulate()))

    assert ask(nexus.url, "/v1/chat/completions", chat()).headers["X-Nexus-Backend"] == "gpu-1"
    assert nexus.get_json("/health")["status"] == "degraded"
