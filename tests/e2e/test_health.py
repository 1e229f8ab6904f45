"""What a client sees of a backend whose probes fail, that restarts, that loads, or that has a new model."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nexus.simulator import Refuse, Stall, Status
from nexus.testing.client import ask, chat
from nexus.testing.fleets import backend_table, table_of
from nexus.testing.ports import free_port
from nexus.testing.waiting import until

CHAT = "/v1/chat/completions"
QUICK = "[health_check]\ninterval_seconds = 0.2\ntimeout_seconds = 0.3\n"


def row(nexus, name="gpu-1"):
    return next(row for row in nexus.get_json("/admin/backends")["backends"] if row["name"] == name)


def status(nexus, name="gpu-1"):
    return row(nexus, name)["status"]


def chat_until(nexus, is_over, model="llama3"):
    """Ask one request after another, and return their statuses."""
    statuses = []
    while not is_over.is_set():
        statuses.append(ask(nexus.url, CHAT, chat(model)).status)
    return statuses


def test_a_sole_backend_that_is_too_busy_for_probes_keeps_its_traffic(start_nexus, simulate):
    one = simulate(tokens_per_s=20, answer_tokens=8)
    nexus = start_nexus(QUICK + table_of(one))
    is_over = threading.Event()

    with ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(chat_until, nexus, is_over) for _ in range(4)]
        one.faults.set(Stall(on="probes"))
        busy = until(lambda: (seen := row(nexus))["is_busy"] and seen)
        time.sleep(3)
        later = row(nexus)
        is_over.set()

    assert {status for client in asked for status in client.result()} == {200}
    assert (busy["status"], later["status"]) == ("healthy", "healthy")
    assert later["last_error"].startswith("busy: request timeout after 1s (requests running: ")


def test_a_backend_that_answers_neither_probes_nor_requests_loses_them_to_another(start_nexus, simulate):
    one, two = simulate(name="gpu-1"), simulate(name="gpu-2")
    nexus = start_nexus(QUICK + table_of(one, priority=0) + table_of(two, priority=90))
    one.faults.set(Stall(on="all"))

    with ThreadPoolExecutor(1) as client:
        hung = client.submit(ask, nexus.url, CHAT, chat())
        until(lambda: row(nexus)["is_busy"])
        replies = [ask(nexus.url, CHAT, chat()) for _ in range(5)]
        one.faults.clear()
        one.faults.set(Refuse(kills_active=True))

    assert {reply.headers["X-Nexus-Backend"] for reply in replies} == {"gpu-2"}
    assert hung.result().status == 200


def test_a_sole_backend_whose_probes_fail_is_asked_as_a_last_resort(start_nexus, simulate):
    one = simulate()
    nexus = start_nexus(QUICK + table_of(one))
    one.faults.set(Status(status=500, on="probes"))
    until(lambda: status(nexus) == "unhealthy")

    reply = ask(nexus.url, CHAT, chat())
    told = ask(nexus.url, "/v1/route/explain", chat()).json()
    listed = ask(nexus.url, "/v1/models").json()["data"]

    assert (reply.status, reply.headers["X-Nexus-Route-Reason"]) == (200, "last-resort")
    assert told["decision"]["reason"] == "last_resort:gpu-1:unhealthy"
    assert "last resort" in str(told["rounds"])
    assert [model["id"] for model in listed] == ["llama3"]


def test_a_healthy_backend_or_fallback_comes_before_a_last_resort(start_nexus, simulate):
    one, two = simulate(name="gpu-1"), simulate(name="gpu-2", models=("qwen3",))
    nexus = start_nexus(QUICK + '[routing.fallbacks]\nllama3 = ["qwen3"]\n' + table_of(one) + table_of(two))
    one.faults.set(Status(status=500, on="probes"))
    until(lambda: status(nexus) == "unhealthy")

    reply = ask(nexus.url, CHAT, chat())

    assert (reply.status, reply.headers["X-Nexus-Fallback-Model"]) == (200, "qwen3")


@pytest.mark.parametrize("down_s", [0.5, 8.0])
def test_a_backend_that_restarts_is_seen_within_two_seconds(start_nexus, simulate, down_s):
    one = simulate()
    nexus = start_nexus(table_of(one))
    one.faults.set(Refuse(kills_active=True))
    lost = ask(nexus.url, CHAT, chat())
    time.sleep(down_s)

    one.faults.clear()
    back_at = time.monotonic()
    until(lambda: status(nexus) == "healthy")

    assert lost.status == 503
    assert time.monotonic() - back_at < 2


def test_the_first_request_after_a_restart_is_answered(start_nexus, simulate):
    one = simulate()
    nexus = start_nexus(table_of(one))
    one.faults.set(Refuse(kills_active=True))
    ask(nexus.url, CHAT, chat())
    until(lambda: row(nexus)["is_refusing"])
    time.sleep(0.1)

    began = time.monotonic()
    refused = ask(nexus.url, CHAT, chat())
    took_s = time.monotonic() - began
    time.sleep(0.1)
    one.faults.clear()
    reply = ask(nexus.url, CHAT, chat())

    assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
    assert took_s < 0.5
    assert reply.status == 200


def test_a_backend_of_unknown_kind_that_starts_after_the_proxy_answers_the_first_request(start_nexus, simulate):
    one = simulate(kind="vllm")
    one.faults.set(Refuse())
    nexus = start_nexus(table_of(one))
    until(lambda: row(nexus)["is_refusing"])
    time.sleep(0.1)

    one.faults.clear()

    assert ask(nexus.url, CHAT, chat()).status == 200


def test_a_new_model_is_found_by_the_first_request_for_it(start_nexus, simulate):
    one, two = simulate(name="gpu-1"), simulate(name="gpu-2", kind="ollama", models=("qwen3",))
    nexus = start_nexus(table_of(one) + table_of(two))
    ask(nexus.url, CHAT, chat())

    two.serve_models("qwen3", "phi4")
    reply = ask(nexus.url, CHAT, chat("phi4"))

    assert (reply.status, reply.headers["X-Nexus-Backend"]) == (200, "gpu-2")


def test_requests_for_models_that_do_not_exist_share_few_probes_and_are_refused_quickly(start_nexus, simulate):
    one, hung = simulate(name="gpu-1"), simulate(name="gpu-2", models=("qwen3",))
    nexus = start_nexus("[health_check]\ninterval_seconds = 600\n" + table_of(one) + table_of(hung))
    hung.faults.set(Stall(on="probes"))
    probes_before = len(one.received("/v1/models"))

    began = time.monotonic()
    with ThreadPoolExecutor(16) as clients:
        replies = list(clients.map(lambda n: ask(nexus.url, CHAT, chat(f"no-{n}")), range(300)))
    took_s = time.monotonic() - began

    assert {reply.status for reply in replies} == {404}
    assert replies[0].json()["error"]["code"] == "model_not_found"
    assert len(one.received("/v1/models")) - probes_before <= 1 + took_s
    # One look waits for the server that hangs, a second at most; then it is known to be silent.
    assert took_s < 6


def test_a_list_without_models_does_not_make_models_unknown_at_once(start_nexus, simulate):
    one = simulate()
    nexus = start_nexus(QUICK + table_of(one))
    ask(nexus.url, CHAT, chat())

    one.faults.set(Status(status=200, body='{"object": "list", "data": []}', on="probes", times=2))
    until(lambda: "no models" in (row(nexus)["last_error"] or ""))
    reply = ask(nexus.url, CHAT, chat())
    until(lambda: row(nexus)["last_error"] is None)

    assert reply.status == 200
    assert ask(nexus.url, CHAT, chat()).status == 200


def test_the_models_of_a_backend_that_is_down_stay_known(start_nexus, simulate):
    one, two = simulate(name="gpu-1"), simulate(name="gpu-2", models=("qwen3",))
    nexus = start_nexus(QUICK + table_of(one) + table_of(two))
    one.faults.set(Refuse(kills_active=True))
    until(lambda: status(nexus) == "unhealthy")

    reply = ask(nexus.url, CHAT, chat())

    assert (reply.status, reply.json()["error"]["code"]) == (503, "no_healthy_backend")


def test_a_backend_that_is_nowhere_costs_a_request_no_time(start_nexus, simulate):
    one = simulate()
    nexus = start_nexus(table_of(one) + backend_table("gone", f"http://127.0.0.1:{free_port()}", type="vllm"))

    assert ask(nexus.url, CHAT, chat()).status == 200
