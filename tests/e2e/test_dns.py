"""A real DNS server changes its answers under load: no request fails, and traffic follows."""

import itertools
import json
import threading
import time
from urllib.request import Request, urlopen

import pytest
from dnslib import QTYPE, RCODE, RR, SRV, A
from dnslib.server import BaseResolver, DNSLogger, DNSServer

from nexus.fleet.discovery.dns_answers import MIN_TTL_S
from nexus.testing.ports import free_port

CONFIG = """
[discovery]
nameservers = ["127.0.0.1:{port}"]

[[discovery.dns]]
name = "_llm._tcp.gpu.test"
"""


class Zone(BaseResolver):
    """Answers with the ports that the test sets; each is a server on this machine."""

    def __init__(self):
        self.ports = ()
        self.code = RCODE.NOERROR

    def resolve(self, request, handler):
        del handler
        reply = request.reply()
        reply.header.rcode = self.code
        for port in self.ports if self.code == RCODE.NOERROR and request.q.qtype == QTYPE.SRV else ():
            target = f"gpu-{port}.test."
            reply.add_answer(RR(request.q.qname, QTYPE.SRV, rdata=SRV(0, 1, port, target), ttl=1))
            reply.add_ar(RR(target, QTYPE.A, rdata=A("127.0.0.1"), ttl=1))
        return reply


@pytest.fixture
def zone():
    zone = Zone()
    zone.port = free_port()
    server = DNSServer(zone, port=zone.port, address="127.0.0.1", logger=DNSLogger("-request,-reply,-truncated,-error"))
    server.start_thread()
    yield zone
    server.stop()
    server.server.server_close()


def ask(nexus):
    body = json.dumps({"model": "llama3", "messages": [{"role": "user", "content": "hi"}]}).encode()
    request = Request(nexus.url + "/v1/chat/completions", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=10) as answer:
        return answer.headers["X-Nexus-Backend"]


def wait_for(claim, within_s):
    deadline = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def names(nexus):
    return [row["name"] for row in nexus.get_json("/admin/backends")["backends"] if row["status"] == "healthy"]


def test_traffic_follows_the_records_and_no_request_fails(simulate, start_nexus, zone):
    one, two = (simulate(name=name, kind="vllm", models=("llama3",)) for name in ("one", "two"))
    zone.ports = (one.port,)
    nexus = start_nexus(CONFIG.format(port=zone.port))
    wait_for(lambda: names(nexus) == [f"gpu-{one.port}.test:{one.port}"], 5)
    answered, failed, is_over = [], [], threading.Event()

    def load():
        for _ in itertools.takewhile(lambda _: not is_over.is_set(), itertools.count()):
            try:
                answered.append(ask(nexus))
            except OSError as exc:
                failed.append(exc)

    loading = threading.Thread(target=load)
    loading.start()
    try:
        zone.ports = (two.port,)
        wait_for(lambda: answered and answered[-1] == f"gpu-{two.port}.test:{two.port}", MIN_TTL_S + 5)
        zone.code = RCODE.SERVFAIL
        nexus.wait_for_log("name_lookup_failed", within_s=MIN_TTL_S + 5)
        before = len(answered)
        wait_for(lambda: len(answered) > before + 10, 5)
        (row,) = nexus.get_json("/admin/backends")["backends"]
    finally:
        is_over.set()
        loading.join()

    assert failed == []
    assert names(nexus) == [f"gpu-{two.port}.test:{two.port}"]
    assert (row["is_stale"], row["discovery_source"]) == (True, "dns")
