"""A proxy that runs out of file descriptors: it says so once, serves whom it can, and recovers."""

import http.client
import json
import os
import socket
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from nexus.proxy.client.descriptors import NO_DESCRIPTOR_REPLY
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MAX_FILES = 96
FLOOD = 150
LISTING = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
CONFIG = "[health_check]\ninterval_seconds = 1\n"


@pytest.fixture
def nexus(simulate, start_nexus):
    return start_nexus(CONFIG + table_of(simulate()), max_files=MAX_FILES)


@pytest.fixture
def kept(nexus):
    """Give a connection that was there before the flood."""
    connection = http.client.HTTPConnection("127.0.0.1", nexus.port, timeout=5)
    assert asked_on(connection).status == 200
    yield connection
    connection.close()


@pytest.fixture
def flood(nexus):
    """Open connections that are silent, each by a client of its own."""
    with ExitStack() as opened:

        def begin(count=FLOOD):
            for _ in range(count):
                last = opened.enter_context(socket.create_connection(("127.0.0.1", nexus.port), timeout=5))
            nexus.wait_for_log("file_descriptors_short")
            # Connections are accepted in order: those before the last one have been turned away, or have a descriptor.
            with suppress(ConnectionError):
                last.recv(1)

        begin.end = opened.close
        yield begin


def asked_on(connection):
    connection.request("POST", "/v1/chat/completions", json.dumps(chat()), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer


def cpu_s(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_flood_of_silent_connections_leaves_room_for_the_others(nexus, kept, flood):
    flood()
    before_s = cpu_s(nexus.process)
    time.sleep(1.5)
    spent_s = cpu_s(nexus.process) - before_s
    on_kept = asked_on(kept)
    refused = ask(nexus.url, "/v1/chat/completions", chat())
    health = ask(nexus.url, "/health")
    (backend,) = nexus.get_json("/admin/backends")["backends"]

    assert spent_s < 0.5
    assert on_kept.status == 200
    assert (refused.status, refused.json()["error"]["code"]) == (503, "overloaded")
    assert (refused.headers["Retry-After"], refused.headers["Connection"]) == ("1", "close")
    assert (health.status, health.headers["Connection"]) == (200, "close")
    assert backend["status"] == "healthy"


def test_afterwards_it_serves_as_before_and_the_log_has_two_lines(nexus, flood):
    flood()
    flood()
    flood.end()
    served = until(lambda: _ok(ask(nexus.url, "/v1/chat/completions", chat())))
    (over,) = nexus.wait_for_log("file_descriptors_enough", within_s=10)

    assert served.status == 200
    assert over["refused"] > FLOOD
    (short,) = nexus.log_lines("file_descriptors_short")
    assert short["limit"] == MAX_FILES
    about = [line["event"] for line in nexus.log_lines() if line["level"] in ("warning", "error")]
    assert about == ["config_warning", "file_descriptors_short"]


def _ok(reply):
    return reply if reply.status == 200 else None


def test_a_connection_for_which_nothing_is_left_is_told_so(nexus, flood):
    flood()
    answers = []
    for _ in range(10):
        # The places of those that wait for their first request are taken for a second.
        with socket.create_connection(("127.0.0.1", nexus.port), timeout=5) as late, suppress(BrokenPipeError):
            late.sendall(LISTING)
            answers.append(late.recv(4096))

    assert NO_DESCRIPTOR_REPLY in answers
    assert {answer for answer in answers if not answer.startswith(b"HTTP/1.1 200 ")} == {NO_DESCRIPTOR_REPLY}


def test_a_limit_that_does_not_carry_what_is_configured_is_warned_of(nexus, command):
    (line,) = nexus.wait_for_log("config_warning")
    checked = command("check", "--set", "server.max_concurrent_requests=100000000")

    assert f"{MAX_FILES} file descriptors are too few for server.max_concurrent_requests = 10000" in line["reason"]
    assert "LimitNOFILE=22931" in line["reason"]
    assert checked.returncode == 0
    assert "warning: " in checked.stderr
    assert "LimitNOFILE=" in checked.stderr
