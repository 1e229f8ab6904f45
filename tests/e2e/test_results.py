"""How a request ended, as the history, the statistics, the access line and the metrics tell it alike."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from http.client import IncompleteRead

import pytest

from nexus.simulator.faults import Cut, ErrorEvent, Stall, Status
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

CONFIG = """
[timeouts]
stream_idle_seconds = 0.5

[[routing.policies]]
model_pattern = "secret"
privacy = "restricted"
"""


@pytest.fixture
def cloud(simulate):
    return simulate(name="cloud", kind="generic", models=("llama3", "secret"), answer_tokens=20)


@pytest.fixture
def nexus(cloud, start_nexus):
    return start_nexus(CONFIG + table_of(cloud, type="generic", zone="open"))


def stream(nexus, model="llama3"):
    try:
        ask(nexus.url, "/v1/chat/completions", chat(model, stream=True))
    except IncompleteRead:
        return


def history(nexus, query):
    return ask(nexus.url, f"/v1/history?{query}", method="GET").json()


@pytest.mark.parametrize(
    ("fault", "result", "status"),
    [
        (None, "finished", 200),
        (Cut(times=1, after_events=4), "truncated", 200),
        (Stall(times=1, phase="mid_stream", after_events=4), "stalled", 200),
        (ErrorEvent(times=1, after_events=4), "failed", 200),
        (Status(times=1, status=400), "failed", 400),
    ],
)
def test_a_result_is_how_it_ended_whatever_the_status(nexus, cloud, fault, result, status):
    if fault is not None:
        cloud.faults.set(fault)

    stream(nexus)

    (entry,) = until(lambda: history(nexus, f"result={result}"))
    assert (entry["result"], entry["status_code"], entry["backend"]) == (result, status, "cloud")
    line = nexus.wait_for_log("exchange_finished")[0]
    assert (line["result"], line["status_code"]) == (result, status)
    counts = ask(nexus.url, "/v1/stats", method="GET").json()["requests"]["results"]
    assert [name for name, count in counts.items() if count] == [result]
    labels = f'model="llama3",backend="cloud",status="{status}",result="{result}"'
    metrics = ask(nexus.url, "/metrics", method="GET").body.decode()
    assert f"nexus_requests_total{{{labels}}} 1" in metrics


def test_a_client_that_leaves_is_no_failure_of_the_server(nexus, cloud):
    cloud.faults.set(Stall(times=1, phase="mid_stream", after_events=4))
    body = json.dumps(chat(stream=True)).encode()
    host, port = nexus.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        client.recv(100)

    (entry,) = until(lambda: history(nexus, "result=client_left"))

    assert entry["status_code"] == 200
    assert history(nexus, "result=failure") == []
    assert sum(point[1] for point in ask(nexus.url, "/admin/overview", method="GET").json()["hour"]["points"]) == 0


def test_a_policy_that_blocks_is_told_as_such(nexus):
    for _ in range(3):
        stream(nexus, "secret")
    stream(nexus, "no-such-model")

    entries = until(lambda: history(nexus, "result=rejected"))
    rejections = ask(nexus.url, "/admin/overview", method="GET").json()["rejections"]

    assert {(e["rejected_by"], e["backend"]) for e in entries} == {("privacy", "none"), (None, "none")}
    assert all("Restricted" in entry["rejected_because"] for entry in entries if entry["rejected_by"])
    told = [(kind["by"], kind["code"], kind["requests"]) for kind in rejections]
    assert told == [("privacy", "rejected_by_policy", 3), (None, "model_not_found", 1)]
    assert "Restricted" in rejections[0]["reason"]


def test_a_request_for_which_there_is_no_room_is_refused_by_the_queue(cloud, start_nexus):
    cloud.faults.set(Stall(times=1))
    nexus = start_nexus("[queue]\nmax_size = 0\n" + table_of(cloud, type="generic", max_in_flight=1))
    with ThreadPoolExecutor() as pool:
        pool.submit(stream, nexus)
        until(lambda: ask(nexus.url, "/admin/overview", method="GET").json()["in_flight"] == 1)
        stream(nexus)
        cloud.faults.clear()

        (entry,) = until(lambda: history(nexus, "result=rejected"))

        assert (entry["rejected_by"], entry["code"], entry["backend"]) == ("queue", "queue_full", "none")
