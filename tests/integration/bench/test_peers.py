"""The load and the upstream of the benchmark behave as real peers do, and no two of their messages are alike."""

import json
import os
import re
import socket
import subprocess
import threading
import urllib.request

import pytest
from comparing.building import build
from comparing.cores import Cores
from comparing.loads import Generator, Load
from comparing.programs import running
from comparing.starting import wait_for_answer

from nexus.testing.ports import free_port

OURS = frozenset(os.sched_getaffinity(0))
ANYWHERE = Cores(proxy=OURS, others=OURS)


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    built = build(tmp_path_factory.mktemp("programs"))
    return built or pytest.skip("the programs are written in C, and there is no gcc")


@pytest.fixture(scope="module")
def upstream(programs, tmp_path_factory):
    port = free_port()
    log = tmp_path_factory.mktemp("upstream") / "log"
    with running([programs.upstream, str(port)], cores=ANYWHERE.others, log=log) as program:
        wait_for_answer(program, port)
        yield port


def recorded(programs, *options, requests):
    """Return the heads and bodies of the first *requests* that the load sends on one connection."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    received = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [programs.load, str(server.getsockname()[1]), "1", "5", *options]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as load:
            client, _ = server.accept()
            with client, client.makefile("rb") as stream:
                for _ in range(requests):
                    head = b"".join(iter(stream.readline, b"\r\n")).decode()
                    received.append((head, stream.read(int(re.search(r"Content-Length: (\d+)", head)[1]))))
                    client.sendall(answer)
            load.kill()
    return received


@pytest.mark.parametrize(
    ("kind", "size_bytes"), [("chat", 800), ("agent", 100_000), ("image", 1_000_000), ("embeddings", 6_500)]
)
def test_no_two_requests_of_a_load_are_alike(programs, kind, size_bytes):
    bodies = [body for _, body in recorded(programs, f"kind={kind}", requests=20)]

    assert len({len(body) for body in bodies}) > 10
    assert all(json.loads(body)["model"] == "m1" for body in bodies)
    assert sum(map(len, bodies)) / len(bodies) == pytest.approx(size_bytes, rel=0.3)
    beginnings = {body[: size_bytes // 4] for body in bodies}
    assert len(beginnings) == len(bodies)


def test_requests_have_the_head_that_openai_python_sends_and_a_connection_one_user(programs):
    heads = [head for head, _ in recorded(programs, requests=20)]

    assert all("user-agent: OpenAI/Python" in head and "x-stainless-retry-count: 0" in head for head in heads)
    assert len({re.search(r"authorization: (.+)\r", head)[1] for head in heads}) == 1


def test_two_runs_send_different_texts(programs):
    first, second = (recorded(programs, requests=1)[0][1] for _ in range(2))

    assert first != second


def post(port, path, body):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.headers, answer.read()


@pytest.mark.parametrize("wishes", [{"max_tokens": 40}, {"max_tokens": 20, "stream": True}])
def test_no_two_answers_of_the_upstream_are_alike(upstream, wishes):
    answers = [post(upstream, "/v1/chat/completions", {"model": "m1", "messages": [], **wishes}) for _ in range(10)]

    assert len({headers["x-request-id"] for headers, _ in answers}) == 10
    assert len({body for _, body in answers}) == 10
    assert len({len(body) for _, body in answers}) > 2
    assert all(headers["date"] and headers["server"] == "uvicorn" for headers, _ in answers)


def test_a_stream_has_as_many_events_as_asked_and_its_usage(upstream):
    wishes = {"model": "m1", "messages": [], "stream": True, "max_tokens": 5}

    _, body = post(upstream, "/v1/chat/completions", wishes)

    *events, last, done = [event.removeprefix("data: ") for event in body.decode().split("\n\n") if event]
    assert len(events) == 5
    assert all(json.loads(event)["choices"][0]["delta"]["content"] for event in events)
    assert json.loads(last)["usage"]["completion_tokens"] == 5
    assert done == "[DONE]"


def test_each_text_gets_an_embedding_of_its_own(upstream):
    texts = ["a", 'with "quotes" and ]', "c"]

    _, body = post(upstream, "/v1/embeddings", {"model": "m1", "input": texts})

    embeddings = [item["embedding"] for item in json.loads(body)["data"]]
    assert [len(it) for it in embeddings] == [16_384] * 3
    assert len(set(embeddings)) == 3


@pytest.mark.parametrize(
    "load",
    [
        Load(connections=4, seconds=0.1),
        Load(connections=4, seconds=0.1, events=8),
        Load(connections=4, seconds=0.1, events=4, gap_us=1_000, spread_ms=20),
        Load(connections=2, seconds=0.1, kind="embeddings"),
        Load(connections=8, seconds=0.1, rate=200),
    ],
    ids=str,
)
def test_every_answer_is_understood(programs, upstream, load):
    result = Generator(programs.load, ANYWHERE).put(load, upstream)

    assert result.requests > 0
    assert result.failed == 0
    assert (result.event_delay is not None) == (load.events > 0)


def test_an_event_is_seen_however_its_chunks_are_cut(programs):
    """Proxies may cut a stream anywhere, also within an event and within the number that it carries."""
    text = b'data: {"id":"chatcmpl-1000","choices":[]}\n\ndata: [DONE]\n\n'
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (text[:17], text[17:24], text[24:50], text[50:]))
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"

    def serve(server):
        client, _ = server.accept()
        with client:
            while client.recv(65536):
                for byte in answer:
                    client.send(bytes([byte]))

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        load = Load(connections=1, seconds=0.05, events=1)
        result = Generator(programs.load, ANYWHERE).put(load, server.getsockname()[1])

    assert result.failed == 0
    assert result.events == result.requests > 0
