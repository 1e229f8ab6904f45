"""Clients that take none of their answers, before a started proxy: bounded in memory and in time, and told of."""

import json
import re
import socket
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import pytest

from nexus.app.process.memory import BUSY_GROWTH_BYTES
from nexus.simulator import HugeEvent, Stall
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until

MIB = 2**20
CLIENTS = 100
"""Of each kind."""
ANSWER_BYTES = 10 * MIB
EVENTS = 40
STALL_S = 2.0
HELD_MIB = 64
"""What the proxy is told to hold at most of all whole answers."""
HELD_BY_ONE_MIB = ANSWER_BYTES / EVENTS / MIB + 0.5
"""What else a client holds that does not read: as documented, its longest event and half a MiB."""
NEAR_MIB = 32
"""What memory may keep of it: caches of the allocator, code that had not run before."""
CONFIG = f"""
[timeouts]
write_stall_seconds = {STALL_S}
connect_seconds = 30
[limits]
max_held_answer_bytes = {HELD_MIB * MIB}
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what a process has in memory")


def resident_mib(nexus):
    status = Path(f"/proc/{nexus.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def metric(nexus, name):
    with urlopen(f"{nexus.url}/metrics", timeout=10) as answer:
        return float(re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)[1])


@pytest.fixture
def send(nexus):
    """Ask on a socket that takes little unasked."""
    with ExitStack() as connected:

        def send(*, is_stream, model=None):
            sock = connected.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(30)
            sock.connect(("127.0.0.1", nexus.port))
            model = model or ("streamed" if is_stream else "whole")
            question = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": is_stream}
            body = json.dumps(question).encode()
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            sock.sendall(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))
            return sock

        yield send


def read_to_the_end(sock, *, sips=0, pause_s=0.0):
    """Read an answer, at first so many times a little after a pause, and return how long it was."""
    received, tail = 0, b""
    while not tail.endswith((b"}", b"0\r\n\r\n")):
        if sips:
            time.sleep(pause_s)
        piece = sock.recv(20_000 if sips else MIB)
        assert piece, received
        received, sips, tail = received + len(piece), max(0, sips - 1), (tail + piece)[-5:]
    return received


@pytest.fixture
def nexus(simulate, start_nexus):
    backend = simulate(models=("streamed", "whole", "silent"), answer_tokens=EVENTS + 2, concurrency=3 * CLIENTS)
    backend.faults.set(
        HugeEvent(model="streamed", size=ANSWER_BYTES // EVENTS, count=EVENTS),
        HugeEvent(model="whole", size=ANSWER_BYTES),
        Stall(model="silent"),
    )
    return start_nexus(CONFIG + table_of(backend), own_interpreter=True)


@pytest.mark.timeout(180)
def test_clients_that_never_read_hold_little_and_not_for_long(nexus, send):
    # Always some request is under way, when there are many clients.
    send(is_stream=True, model="silent")
    before, most = resident_mib(nexus), 0.0

    socks = [send(is_stream=is_stream) for is_stream in (True, False) * CLIENTS]
    deadline = time.monotonic() + 90
    while len(lines := nexus.log_lines("exchange_finished")) < len(socks):
        most = max(most, resident_mib(nexus))
        assert time.monotonic() < deadline
        time.sleep(0.1)
    in_flight = metric(nexus, "nexus_requests_in_flight")
    # As a request is under way, less than this is not worth a trim; see nexus.app.process.memory.
    until(lambda: resident_mib(nexus) < before + BUSY_GROWTH_BYTES / MIB, within_s=60)

    assert Counter((line["ending"], line["termination"], line["model"]) for line in lines) == {
        ("client_stalled", "cD", "streamed"): CLIENTS,
        ("client_stalled", "cD", "whole"): CLIENTS,
    }
    assert min(line["phases_ms"]["relay"] for line in lines) >= 1000 * STALL_S
    assert most - before < HELD_MIB + len(socks) * HELD_BY_ONE_MIB + NEAR_MIB
    assert in_flight == 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize("is_stream", [True, False], ids=["streams", "whole answers"])
def test_clients_that_read_slowly_or_pause_get_everything(nexus, send, is_stream):
    # Longer than the limit, all in all; never so long without a sip.
    paces = [{"sips": 10, "pause_s": STALL_S / 5}, {"sips": 1, "pause_s": STALL_S * 0.7}, {}]
    with ThreadPoolExecutor() as readers:
        socks = [send(is_stream=is_stream) for _ in paces]

        received = list(readers.map(lambda sock, pace: read_to_the_end(sock, **pace), socks, paces))

    lines = nexus.wait_for_log("exchange_finished", count=len(paces))
    assert min(received) > ANSWER_BYTES
    assert {(line["ending"], line["termination"]) for line in lines} == {("finished", "--")}


def test_a_connection_with_an_answer_that_nobody_reads_is_cut_and_counts_until_then(nexus, send):
    sock = send(is_stream=False)

    until(lambda: metric(nexus, "nexus_requests_in_flight") == 1)
    [line] = nexus.wait_for_log("exchange_finished", within_s=10)
    until(lambda: metric(nexus, "nexus_client_connections") == 1)

    assert line["ending"] == "client_stalled"
    assert 0 < line["bytes_out"] < ANSWER_BYTES
    assert 1000 * STALL_S <= line["phases_ms"]["relay"] < 2000 * STALL_S
    assert sum(map(len, iter(lambda: sock.recv(MIB), b""))) < ANSWER_BYTES
