"""Ports of hosts that the operator names: servers join, and whatever else listens there stays out."""

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.client import ask, chat
from nexus.testing.ports import free_port
from nexus.testing.waiting import until
from tests.support.steady_load import SteadyLoad

CONFIG = """
[discovery]
interval_seconds = 0.2
grace_period_seconds = 1

[[discovery.hosts]]
hosts = [{hosts}]
"""


class Website(BaseHTTPRequestHandler):
    """Answers every path with a page, and counts."""

    asked = 0

    def do_GET(self):
        type(self).asked += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>hello</title>")

    def log_message(self, *_):
        pass


@pytest.fixture
def website():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Website)
    Thread(target=server.serve_forever).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def hosts(*entries):
    return CONFIG.format(hosts=", ".join(f'"{entry}"' for entry in entries))


def rows(nexus):
    return {row["name"]: row for row in nexus.get_json("/admin/backends")["backends"]}


def test_servers_are_used_and_a_website_and_the_proxy_itself_are_not(start_nexus, simulate, website):
    vllm, ollama = (simulate(name=kind, kind=kind, models=("llama3",)) for kind in ("vllm", "ollama"))
    own, nothing = free_port(), free_port()
    places = [f"127.0.0.1:{port}" for port in (vllm.port, ollama.port, website, own, nothing)]
    nexus = start_nexus(hosts(*places, f"127.0.0.2:{own}"), port=own)

    healthy = until(lambda: len(rows(nexus)) == 2 and all(r["status"] == "healthy" for r in rows(nexus).values()))
    (unknown,) = nexus.wait_for_log("listener_not_recognised")
    answers = [ask(nexus.url, "/v1/chat/completions", chat()) for _ in range(8)]

    assert healthy
    assert {name: (row["backend_type"], row["discovery_source"], row["zone"]) for name, row in rows(nexus).items()} == {
        places[0]: ("vllm", "hosts", "restricted"),
        places[1]: ("ollama", "hosts", "restricted"),
    }
    assert {answer.headers["X-Nexus-Backend"] for answer in answers} <= {places[0], places[1]}
    assert {answer.status for answer in answers} == {200}
    assert (unknown["host"], unknown["port"]) == ("127.0.0.1", website)
    assert Website.asked > 0


def test_a_server_that_vanishes_leaves_after_the_grace_period_and_comes_back_under_its_name(start_nexus, simulate):
    steady, port = simulate(kind="vllm", models=("llama3",)), free_port()
    name = f"localhost:{port}"
    nexus = start_nexus(hosts(f"127.0.0.1:{steady.port}", name))
    until(lambda: any(row["status"] == "healthy" for row in rows(nexus).values()))

    with SteadyLoad(nexus.url, clients=2) as load:
        for _ in range(2):
            with in_thread(Simulator(Settings(name="guest", kind="vllm", models=("llama3",), port=port))):
                until(lambda: name in load.answers[-20:])
            until(lambda: name not in rows(nexus))
            load.answers.clear()

    assert load.failures == []
    assert [line["backend"] for line in nexus.log_lines("backend_joined")].count(name) == 2


@pytest.fixture
def own_address():
    """An address of this machine that is no loopback address, as those of a subnet are."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        return probe.getsockname()[0]


def test_servers_of_a_subnet_wait_for_approval(start_nexus, simulate, own_address, command):
    server = simulate(kind="vllm", models=("llama3",), host=own_address)
    name = f"{own_address}:{server.port}"
    nexus = start_nexus(hosts(f"{own_address}/32:{server.port}"))
    until(lambda: [row["name"] for row in nexus.get_json("/admin/backends")["pending"]] == [name])

    refused = ask(nexus.url, "/v1/chat/completions", chat())
    approved = command("backends", "approve", name)
    answered = until(lambda: (reply := ask(nexus.url, "/v1/chat/completions", chat())).status == 200 and reply)

    assert refused.status in {404, 503}
    assert approved.returncode == 0, approved.stderr
    assert answered.headers["X-Nexus-Backend"] == name
    assert rows(nexus)[name]["discovery_source"] == "subnets"


def test_check_says_which_names_lead_nowhere_and_which_entries_are_wrong(command, tmp_path):
    (tmp_path / "nexus.toml").write_text(hosts("localhost:8000", "gone.invalid:8000"))
    checked = command("check")
    (tmp_path / "nexus.toml").write_text(hosts("localhost", "10.0.0.0/8"))
    refused = command("check")

    assert checked.returncode == 0
    assert "[[discovery.hosts]]: the host 'gone.invalid' is not found" in checked.stderr
    assert "localhost" not in checked.stderr
    assert "  hosts whose ports are tried: localhost:8000, gone.invalid:8000\n" in checked.stdout
    assert refused.returncode == 78
    assert "discovery.hosts[0]: '10.0.0.0/8': has 16777216 addresses" in refused.stderr
    assert "- at `hosts[1]` (line 7)" in refused.stderr
