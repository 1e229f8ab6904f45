"""One of two backends is killed under load: only those requests are lost whose answer had begun."""

import http.client
import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import openai

from nexus.simulator import Refuse, Status
from nexus.testing.client import ask, chat
from nexus.testing.fleets import backend_table, table_of
from nexus.testing.waiting import until
from tests.support.process import simulator_process

SPEED = ("--tokens-per-second", "60", "--answer-tokens", "16", "--ttft", "0.05", "--kind", "vllm")


class Told(NamedTuple):
    """What one client saw."""

    status: int
    backend: str
    body: bytes
    is_whole: bool
    ended_at: float


def converse(port, stream):
    """Ask once, and note what came, however it ended."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(
        "POST", "/v1/chat/completions", json.dumps(chat(stream=stream)), {"Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    try:
        body, is_whole = answer.read(), True
    except http.client.IncompleteRead as exc:
        body, is_whole = exc.partial, False
    finally:
        connection.close()
    is_done = is_whole and (not stream or body.endswith(b"data: [DONE]\n\n"))
    return Told(answer.status, answer.headers["X-Nexus-Backend"], body, is_done, time.monotonic())


def test_a_kill_under_load_costs_only_answers_that_had_begun(start_nexus):
    with (
        simulator_process("--name", "victim", *SPEED) as (victim, victim_url),
        simulator_process("--name", "survivor", *SPEED) as (_, survivor_url),
    ):
        nexus = start_nexus(backend_table("victim", victim_url) + backend_table("survivor", survivor_url))
        stop = threading.Event()
        with ThreadPoolExecutor(40) as pool:

            def keep_asking(number):
                told = []
                while not stop.is_set():
                    told.append(converse(nexus.port, stream=(number + len(told)) % 2 == 0))
                return told

            clients = [pool.submit(keep_asking, number) for number in range(40)]
            time.sleep(1.0)
            killed_at = time.monotonic()
            victim.send_signal(signal.SIGKILL)
            time.sleep(1.0)
            stop.set()
            told = [one for client in clients for one in client.result()]

        lost = [one for one in told if not one.is_whole or one.status != 200]
        assert {one.backend for one in told} == {"victim", "survivor"}
        assert all(one.status == 200 and one.backend == "victim" for one in lost), lost
        # Its answer had begun, it is cut for all to see, and it was cut when the server died and not a minute later.
        assert all(b'"code":"stream_truncated"' in one.body for one in lost), lost
        assert all(one.ended_at - killed_at < 1.0 for one in lost), lost
        assert 0 < len(lost) <= 40
        after = [one for one in told if one.ended_at > killed_at + 0.9]
        assert after
        assert {one.backend for one in after} == {"survivor"}

        until(lambda: not any(b["pending_requests"] for b in nexus.get_json("/admin/backends")["backends"]))
        lines = nexus.wait_for_log("exchange_finished", len(told))
        assert len(lines) == len(told)
        assert sum(line["ending"] == "backend_failed" for line in lines) == len(lost)


def test_a_killed_backend_that_comes_back_is_used_again(start_nexus, simulate):
    one, two = simulate(name="gpu-1"), simulate(name="gpu-2", models=("qwen3",))
    nexus = start_nexus("[health_check]\ninterval_seconds = 10\n" + table_of(one) + table_of(two))
    one.faults.set(Refuse(kills_active=True))
    lost = ask(nexus.url, "/v1/chat/completions", chat())

    one.faults.clear()
    until(lambda: ask(nexus.url, "/v1/chat/completions", chat()).status == 200, within_s=15)

    assert lost.status == 503
    until(lambda: nexus.get_json("/health")["status"] == "healthy", within_s=2)


def test_backends_that_start_after_the_proxy_are_found(start_nexus, simulate):
    one = simulate(name="gpu-1")
    one.faults.set(Refuse())
    nexus = start_nexus("[health_check]\ninterval_seconds = 10\n" + table_of(one))
    before = ask(nexus.url, "/v1/chat/completions", chat())

    one.faults.clear()
    until(lambda: ask(nexus.url, "/v1/chat/completions", chat()).status == 200, within_s=15)

    assert before.status == 503


def test_a_fallback_answers_when_every_backend_of_the_model_fails(start_nexus, simulate):
    one, two = simulate(name="gpu-1"), simulate(name="gpu-2", models=("qwen3",))
    nexus = start_nexus('[routing.fallbacks]\nllama3 = ["qwen3"]\n' + table_of(one) + table_of(two))
    one.faults.set(Status(status=503))

    reply = ask(nexus.url, "/v1/chat/completions", chat())

    assert (reply.status, reply.headers["X-Nexus-Backend"]) == (200, "gpu-2")
    assert (reply.headers["X-Nexus-Fallback-Model"], reply.headers["X-Nexus-Route-Reason"]) == ("qwen3", "failover")
    assert reply.json()["model"] == "qwen3"
    assert one.received("/v1/chat/completions")


def test_a_backend_whose_key_was_revoked_costs_no_client_an_answer(simulate, start_nexus, command):
    revoked, sound = simulate(name="revoked"), simulate(name="sound")
    revoked.faults.set(Status(status=401))
    config = table_of(revoked, api_key="env:GPU_KEY", priority=1) + table_of(sound, priority=2)
    nexus = start_nexus(config, environ={"GPU_KEY": "sk-revoked"})
    client = openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="unused", max_retries=0)

    def chat_once(_number):
        messages = [{"role": "user", "content": "hello there"}]
        return client.chat.completions.create(model="llama3", messages=messages).choices[0].message.content

    with client, ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(chat_once, range(60)))
    shown = {row["name"]: row["misconfigured"] for row in nexus.get_json("/admin/backends")["backends"]}
    table = command("backends", "--url", nexus.url, GPU_KEY="sk-revoked").stdout

    assert len(answers) == 60
    assert all(answer.startswith("sound: ") for answer in answers)
    assert shown == {"revoked": "it refused the configured key, or asks for one (HTTP 401)", "sound": None}
    assert "healthy, misconfigured" in table
    assert 'nexus_backend_misconfigured{backend="revoked"} 1' in ask(nexus.url, "/metrics").body.decode()
    assert [line["backend"] for line in nexus.log_lines("backend_misconfigured")] == ["revoked"]
