"""What clients do with a connection, on raw sockets: each request is one, whatever came before and comes after it."""

import hashlib
import re
import socket

import pytest

from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until
from tests.support.dialects import CHAT, MODEL
from tests.support.process import run_nexus

KEY = "the-one-key"
WITH_KEY = f"Authorization: Bearer {KEY}\r\n"
CONFIG = f'[server]\napi_keys = ["sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"]\n'
TTFT_S = 0.3


@pytest.fixture(scope="module")
def gpu():
    simulator = Simulator(Settings(name="gpu-1", kind="vllm", models=(MODEL,), ttft_s=TTFT_S, tokens_per_s=50.0))
    with in_thread(simulator):
        yield simulator


@pytest.fixture(scope="module")
def nexus(gpu, tmp_path_factory):
    with run_nexus(tmp_path_factory.mktemp("connections"), CONFIG + table_of(gpu)) as running:
        yield running


@pytest.fixture
def connection(nexus):
    with socket.create_connection(("127.0.0.1", nexus.port), timeout=10) as connection:
        yield connection


def chat(*, stream=False, headers=WITH_KEY):
    return CHAT.request(CHAT.body(stream=stream), headers=headers)


def chunked(trailer):
    body = CHAT.body(stream=False)
    head, _, _ = chat().partition(b"Content-Length")
    return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n%b\r\n\r\n" % (len(body), body, trailer.encode())


def all_that_comes(connection):
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def statuses(answers):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d\d\d) ", answers)]


def test_a_key_in_a_trailer_opens_nothing(connection):
    listing = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"

    connection.sendall(chunked(WITH_KEY.strip()) + listing)
    connection.shutdown(socket.SHUT_WR)

    assert statuses(all_that_comes(connection)) == [200, 401]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_closes_its_writing_side_gets_its_answer(connection, stream):
    connection.sendall(chat(stream=stream))
    connection.shutdown(socket.SHUT_WR)
    answer = all_that_comes(connection)

    assert statuses(answer) == [200]
    assert (CHAT.end if stream else b'"usage"') in answer


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_closes_stops_its_backend(connection, gpu, stream):
    aborted = len(gpu.aborted)
    connection.sendall(chat(stream=stream))
    until(lambda: gpu.active == 1)

    connection.close()

    until(lambda: len(gpu.aborted) == aborted + 1, within_s=TTFT_S / 2)


def test_requests_before_a_malformed_one_are_answered(connection):
    connection.sendall(chat() * 2 + b"HEAD /\x01 HTTP/1.1\r\n\r\n" + b"x" * 1_000_000)
    answers = all_that_comes(connection)

    assert statuses(answers) == [200, 200, 400]
    assert answers.endswith(b"\r\n\r\n")
