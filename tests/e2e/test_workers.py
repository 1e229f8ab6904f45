"""Several workers serve one port as one proxy."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from itertools import accumulate
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import openai
import pytest
import websockets.sync.client
from prometheus_client.parser import text_string_to_metric_families

from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.ports import free_port
from nexus.testing.waiting import until
from tests.support.process import run_nexus

CONFIG = """
[server]
workers = 2
drain_timeout_seconds = 20

[discovery]
enabled = false

[queue]
max_size = 30

[routing.aliases]
first = ["llama3"]
"""
CHAT = "/v1/chat/completions"
STREAMS = 16

TUNNEL = """
import os
from nexus.api import PluginConfig, hookimpl

class Config(PluginConfig):
    is_single: bool = False

class Service:
    def __init__(self, is_single):
        self.is_single = is_single

    async def __aenter__(self):
        if self.is_single:
            os.close(os.open("tunnel", os.O_CREAT | os.O_EXCL))

    async def __aexit__(self, *_):
        if self.is_single:
            os.remove("tunnel")

@hookimpl
def nexus_config():
    return Config

@hookimpl
def nexus_services(config, store, wake):
    return [Service(config.is_single)]
"""
"""A plugin whose service starts in one worker only, if its table says so."""

SINGLE = "\n[plugins.tunnel]\nis_single = true\n"


@pytest.fixture(scope="module")
def simulator():
    simulator = Simulator(Settings(name="gpu-1", models=("llama3", "slow"), tokens_per_s=20, answer_tokens=60))
    with in_thread(simulator):
        yield simulator


@pytest.fixture(scope="module")
def narrow():
    """A backend that may get three requests at once."""
    simulator = Simulator(Settings(name="gpu-2", models=("narrow",), ttft_s=0.05, tokens_per_s=50, answer_tokens=150))
    with in_thread(simulator):
        yield simulator


@pytest.fixture(scope="module")
def nexus(simulator, narrow, tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    plugin = folder / "tunnel.py"
    plugin.write_text(TUNNEL)
    backends = table_of(simulator) + table_of(narrow, max_in_flight=3)
    with run_nexus(folder, CONFIG + backends, arguments=("--plugin", str(plugin))) as nexus:
        nexus.wait_for_log("started", 3, within_s=20)
        yield nexus


def pid_of(nexus, worker):
    """Return the process of the latest worker with that number."""
    return next(line["pid"] for line in reversed(nexus.log_lines("worker_ready")) if line["worker"] == worker)


def workers_of(nexus):
    return nexus.get_json("/health")["workers"]


def streamed_by(nexus):
    """Return the worker of each stream that has ended."""
    return [line["worker"] for line in nexus.log_lines("exchange_finished") if line["stream"]]


def stream(nexus, max_tokens):
    """Return whether a stream on a connection of its own was whole."""
    body = json.dumps({**chat("llama3", stream=True), "max_tokens": max_tokens}).encode()
    request = Request(f"{nexus.url}/v1/chat/completions", body, {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=20) as reply:
            return reply.read().endswith(b"data: [DONE]\n\n")
    except (OSError, HTTPException):
        return False


def test_both_workers_serve_openai_clients_and_say_how_many_they_are(nexus):
    for _ in range(12):
        with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0) as client:
            reply = client.chat.completions.create(
                model="llama3", messages=[{"role": "user", "content": "hi"}], max_tokens=2
            )
            assert reply.choices[0].message.content

    lines = nexus.wait_for_log("exchange_finished", 12)
    assert {line["worker"] for line in lines} == {1, 2}
    assert workers_of(nexus) == {"wanted": 2, "ready": 2}
    assert nexus.get_json("/ready")["detail"]["workers"] == {"wanted": 2, "ready": 2}
    assert nexus.get_json("/v1/stats")["workers"] == {"wanted": 2, "ready": 2, "answered": 2, "silent": []}


def metrics_of(nexus):
    """Return what any worker shows: the value of each sample, by name and labels."""
    page = ask(nexus.url, "/metrics").body.decode()
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {(sample.name, *sorted(sample.labels.items())): sample.value for sample in samples}


def total_of(nexus):
    """Return how many requests have ended; their lines in the log may come later."""
    return nexus.get_json("/v1/stats")["requests"]["total"]


def finished(nexus):
    """Return the sum of all requests as each of several pages has it; any worker answers."""
    stats = nexus.get_json("/v1/stats")
    metrics = metrics_of(nexus)
    return {
        stats["requests"]["total"],
        sum(backend["requests"] for backend in stats["backends"]),
        sum(model["requests"] for model in stats["models"]),
        sum(value for (name, *_), value in metrics.items() if name == "nexus_requests_total"),
        sum(value for (name, *_), value in metrics.items() if name == "nexus_request_duration_seconds_count"),
    }


def test_pages_show_the_sum_of_all_workers(nexus):
    before = total_of(nexus)
    for _ in range(20):
        assert ask(nexus.url, CHAT, chat("llama3", max_tokens=1)).status == 200
    lines = nexus.wait_for_log("exchange_finished", before + 20)

    assert {line["worker"] for line in lines} == {1, 2}
    assert [finished(nexus) for _ in range(6)] == [{len(lines)}] * 6
    metrics = metrics_of(nexus)
    assert (metrics["nexus_workers",], metrics["nexus_workers_answered",]) == (2, 2)
    assert metrics["nexus_backends_total",] == 2
    assert {dict(labels).get("worker") for name, *labels in metrics if name == "process_cpu_seconds_total"} == {
        "1",
        "2",
    }
    assert ask(nexus.url, "/metrics").headers["X-Nexus-Workers"] == "2/2"
    ids = {line["request_id"] for line in lines}
    for _ in range(3):
        assert {entry["request_id"] for entry in nexus.get_json("/v1/history?limit=1000")} == ids
        assert {row["id"] for row in nexus.get_json("/v1/route/decisions?limit=1000")["decisions"]} == ids
    assert {nexus.get_json(f"/v1/route/decisions/{id_}")["id"] for id_ in ids} == ids
    rows = nexus.get_json("/admin/backends")["backends"]
    assert sum(row["total_requests"] for row in rows) == len(lines)
    assert nexus.get_json("/admin/queue")["enqueued"] == sum(
        value for (name, *_), value in metrics.items() if name == "nexus_queue_enqueued_total"
    )


def test_a_worker_that_hangs_is_named_and_keeps_its_counts(nexus):
    total = total_of(nexus)
    assert finished(nexus) == {total}
    os.kill(pid_of(nexus, 2), signal.SIGSTOP)
    try:
        # New connections to the one that hangs wait, so this one is kept.
        shown = until(lambda: answered_by_the_other(nexus), within_s=10)
    finally:
        os.kill(pid_of(nexus, 2), signal.SIGCONT)

    assert shown["workers"] == {"wanted": 2, "ready": 2, "answered": 1, "silent": ["2"]}
    assert shown["requests"]["total"] == total
    until(lambda: nexus.get_json("/v1/stats")["workers"]["answered"] == 2, within_s=5)


def answered_by_the_other(nexus):
    try:
        with urlopen(f"{nexus.url}/v1/stats", timeout=1) as reply:
            return json.load(reply)
    except OSError:
        return None


def test_all_workers_together_keep_the_limit_of_a_backend(nexus, narrow):
    with ThreadPoolExecutor(24) as clients:
        replies = [
            clients.submit(ask, nexus.url, CHAT, chat("narrow", max_tokens=1, user=str(number))) for number in range(48)
        ]

    requests = [record for record in narrow.requests if record.path.endswith("/completions")]
    # The server notes the end of a request after its client has the answer.
    until(lambda: all(each.ended is not None for each in requests))
    steps = sorted(step for each in requests for step in ((each.began, 1), (each.ended, -1)))
    assert [reply.result().status for reply in replies] == [200] * 48
    assert max(accumulate(change for _, change in steps)) == 3
    lines = [line for line in nexus.wait_for_log("exchange_finished", 60) if line["backend"] == "gpu-2"]
    assert {line["worker"] for line in lines} == {1, 2}


def test_a_backend_is_probed_by_the_parent_only(nexus, narrow):
    del nexus

    assert len({record.connection for record in narrow.requests if record.request.method == "GET"}) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_program_that_a_plugin_starts_does_not_inherit_the_sockets_of_a_worker(nexus):
    for worker in (1, 2):
        folder = Path(f"/proc/{pid_of(nexus, worker)}")
        sockets = [link.name for link in (folder / "fd").iterdir() if str(link.readlink()).startswith("socket:")]
        flags = [(folder / "fdinfo" / name).read_text().split("flags:")[1].split()[0] for name in sockets]

        assert len(sockets) >= 2
        assert all(int(each, 8) & os.O_CLOEXEC for each in flags)


def test_the_dashboard_opens_its_feed_at_any_worker(nexus):
    for _ in range(8):
        ticket = ask(nexus.url, "/admin/feed-ticket", b"").json()["ticket"]
        with websockets.sync.client.connect(f"ws://127.0.0.1:{nexus.port}/ws?ticket={ticket}") as feed:
            overview = json.loads(feed.recv(timeout=5))["data"]
            total = total_of(nexus)
            assert overview["workers"] == {"answered": 2, "silent": []}
            assert overview["requests"]["total"] == total
            assert sum(backend["total_requests"] for backend in overview["backends"]) == total
            assert sum(point[0] for point in overview["hour"]["points"]) == total
            assert len(overview["history"]) == min(total, 100)


def test_a_viewer_sees_each_request_of_all_workers_once(nexus):
    ticket = ask(nexus.url, "/admin/feed-ticket", b"").json()["ticket"]
    before = total_of(nexus)
    with websockets.sync.client.connect(f"ws://127.0.0.1:{nexus.port}/ws?ticket={ticket}") as feed:
        feed.recv(timeout=5)
        for _ in range(10):
            assert ask(nexus.url, CHAT, chat("llama3", max_tokens=1)).status == 200
        seen, figures = [], {}
        while figures.get("requests", {}).get("total") != before + 10 or len(seen) < 10:
            update = json.loads(feed.recv(timeout=5))
            if update["update_type"] == "RequestComplete":
                seen.append(update["data"]["request_id"])
            elif update["update_type"] == "Figures":
                figures = update["data"]

    # Each worker writes its lines in a batch of its own, so those of earlier requests may come later.
    lines = [line for line in nexus.wait_for_log("exchange_finished", before + 10) if line["request_id"] in seen]
    assert len(set(seen)) == len(seen) == len(lines) == 10
    assert {line["worker"] for line in lines} == {1, 2}
    assert sum(backend["total_requests"] for backend in figures["backends"].values()) == before + 10


def test_a_reload_reaches_all_workers_and_a_refused_one_is_reported_once(nexus):
    before = nexus.config_file.read_text()
    nexus.config_file.write_text(before.replace('first = ["llama3"]', 'second = ["llama3"]'))
    nexus.send(signal.SIGHUP)
    nexus.wait_for_log("config_reloaded", 3)

    assert {ask(nexus.url, CHAT, chat("second", max_tokens=1)).status for _ in range(12)} == {200}

    nexus.config_file.write_text("[server]\nworkers = 0\n")
    nexus.send(signal.SIGHUP)
    nexus.wait_for_log("config_rejected")
    until(lambda: all(nexus.get_json("/ready")["detail"]["rejected_reload"] for _ in range(12)), within_s=5)

    assert len(nexus.log_lines("config_rejected")) == 1
    nexus.config_file.write_text(before)
    nexus.send(signal.SIGHUP)
    nexus.wait_for_log("config_reloaded", 6)
    until(lambda: not any(nexus.get_json("/ready")["detail"]["rejected_reload"] for _ in range(12)), within_s=5)


def test_a_reload_that_one_worker_refuses_changes_none(nexus):
    before = nexus.config_file.read_text()
    refused = len(nexus.log_lines("config_rejected"))
    nexus.config_file.write_text(before.replace('first = ["llama3"]', 'third = ["llama3"]') + SINGLE)
    nexus.send(signal.SIGHUP)
    line = nexus.wait_for_log("config_rejected", refused + 1)[-1]

    assert "its service does not start: FileExistsError" in line["reason"]
    assert "worker" not in line
    assert nexus.log_lines("task_failed") == []
    assert {ask(nexus.url, CHAT, chat("first", max_tokens=1)).status for _ in range(12)} == {200}
    # What was prepared is discarded.
    until(lambda: not nexus.config_file.with_name("tunnel").exists(), within_s=5)
    nexus.config_file.write_text(before)


def test_a_worker_that_is_killed_under_load_loses_its_own_streams_only(nexus):
    killed = threading.Event()
    refused, late = [], []
    (counted,) = finished(nexus)

    def come_and_go():
        while not killed.is_set() or len(late) < 20:
            was_killed = killed.is_set()
            try:
                with urlopen(f"{nexus.url}/health", timeout=10) as reply:
                    assert reply.status == 200
                if was_killed:
                    late.append(time.monotonic())
            except URLError as exc:
                refused.append(exc)
            except (OSError, HTTPException):
                # A page that the killed worker was about to send.
                assert not was_killed

    with ThreadPoolExecutor(STREAMS + 2) as clients:
        streams = [clients.submit(stream, nexus, 40) for _ in range(STREAMS)]
        pages = [clients.submit(come_and_go) for _ in range(2)]
        time.sleep(0.7)
        begun = time.monotonic()
        os.kill(pid_of(nexus, 1), signal.SIGKILL)
        killed.set()
        ready = nexus.wait_for_log("worker_ready", 3, within_s=20)
        took_s = time.monotonic() - begun
        whole = [each.result() for each in streams]
        for each in pages:
            each.result()

    sys.stdout.write(f"successor ready after {took_s:.2f} s\n")
    assert ready[-1]["worker"] == 1
    assert refused == []
    assert 0 < sum(whole) < STREAMS
    until(lambda: len(streamed_by(nexus)) >= sum(whole), within_s=5)
    assert streamed_by(nexus) == [2] * sum(whole)
    # What it had counted when it was last asked is kept, and so is what the other one has.
    assert min(finished(nexus)) >= counted + sum(whole)
    assert [(line["worker"], line["reason"]) for line in nexus.log_lines("worker_ended")] == [(1, "killed by SIGKILL")]
    until(lambda: workers_of(nexus) == {"wanted": 2, "ready": 2}, within_s=5)


def test_a_worker_that_is_asked_to_end_finishes_its_streams_while_its_successor_serves(nexus):
    with ThreadPoolExecutor(STREAMS) as clients:
        streams = [clients.submit(stream, nexus, 30) for _ in range(STREAMS)]
        time.sleep(0.7)
        os.kill(pid_of(nexus, 2), signal.SIGTERM)
        nexus.wait_for_log("worker_ready", 4, within_s=20)

        assert ask(nexus.url, CHAT, chat("llama3", max_tokens=1)).status == 200
        assert all(each.result() for each in streams)
    assert len(nexus.log_lines("worker_ended")) == 1


def test_all_workers_together_keep_the_limit_of_the_queue(nexus):
    def ask_for(tokens):
        return ask(nexus.url, CHAT, chat("narrow", stream=tokens > 1) | {"max_tokens": tokens}).status

    with ThreadPoolExecutor(60) as clients:
        taken = [clients.submit(ask_for, 120) for _ in range(3)]
        until(lambda: metrics_of(nexus)["nexus_pending_requests", ("backend", "gpu-2")] == 3)
        waiting = []
        for _ in range(50):
            waiting.append(clients.submit(ask_for, 1))
            time.sleep(0.02)
        longest = metrics_of(nexus)["nexus_queue_max_size",]
    statuses = [each.result() for each in waiting]

    assert [each.result() for each in taken] == [200] * 3
    # One worker may have filled more than its half, 15, before the other took its own.
    assert (longest, 5 <= statuses.count(503) <= 21) == (30, True), statuses
    assert statuses.count(200) == 50 - statuses.count(503)


def test_the_other_worker_accepts_connections_until_the_successor_of_one_that_was_killed_serves(nexus):
    killed, headers = pid_of(nexus, 1), {"X-Request-Id": "adopted"}
    os.kill(killed, signal.SIGKILL)
    replies = [ask(nexus.url, CHAT, chat("first", max_tokens=1), headers=headers).status for _ in range(20)]
    has_successor = pid_of(nexus, 1) != killed

    def served_by():
        lines = nexus.log_lines("exchange_finished")
        return [line["worker"] for line in lines if line.get("client_request_id") == "adopted"]

    until(lambda: len(served_by()) == 20)
    assert replies == [200] * 20
    assert has_successor or set(served_by()) == {2}
    until(lambda: workers_of(nexus)["ready"] == 2, within_s=20)


def test_no_second_proxy_can_listen_at_the_port(nexus, tmp_path):
    command = [sys.executable, "-m", "nexus", "--no-discovery", "--port", str(nexus.port), "--workers", "2"]

    second = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30, cwd=tmp_path)

    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {nexus.port}: it is in use by" in second.stderr
    assert f"(process {nexus.process.pid})" in second.stderr


def test_sigterm_lets_all_workers_finish_their_streams(nexus):
    """Stops the proxy, so it comes last."""
    with ThreadPoolExecutor(STREAMS) as clients:
        streams = [clients.submit(stream, nexus, 30) for _ in range(STREAMS)]
        time.sleep(0.7)
        workers = [pid_of(nexus, worker) for worker in (1, 2)]

        assert nexus.stop() == 0
        assert all(each.result() for each in streams)
    assert nexus.log_lines()[-1]["event"] == "stopped"
    assert "worker" not in nexus.log_lines()[-1]
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_service_that_does_not_start_in_a_worker_ends_the_proxy_with_its_reason(tmp_path):
    (tmp_path / "tunnel.py").write_text(TUNNEL)
    (tmp_path / "nexus.toml").write_text(f"[server]\nworkers = 2\nport = {free_port()}\n{SINGLE}")
    command = [sys.executable, "-m", "nexus", "--no-discovery", "--plugin", "tunnel.py"]

    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=50, cwd=tmp_path)

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("nexus-proxy: plugin 'tunnel'")
    assert result.stderr.splitlines()[-1].endswith(
        "its service does not start: FileExistsError: [Errno 17] File exists: 'tunnel'"
    )


def is_refused(nexus):
    try:
        socket.create_connection(("127.0.0.1", nexus.port)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_workers_finish_their_streams_and_end_when_the_parent_is_gone(simulator, tmp_path):
    with run_nexus(tmp_path, CONFIG + table_of(simulator)) as nexus, ThreadPoolExecutor(STREAMS) as clients:
        nexus.wait_for_log("started", 3, within_s=20)
        streams = [clients.submit(stream, nexus, 50) for _ in range(STREAMS)]
        time.sleep(0.5)

        nexus.process.kill()

        # So that another proxy can have the port at once, although the streams go on.
        until(lambda: is_refused(nexus), within_s=2)
        assert not any(each.done() for each in streams)
        assert all(each.result() for each in streams)
        nexus.wait_for_log("stopped", 2, within_s=10)
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", nexus.port))
    assert len(nexus.log_lines("parent_lost")) == 2
