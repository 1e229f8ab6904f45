"""A server is announced on the network, found by a started proxy, approved, used, killed, lost, and found again."""

import contextlib
import json
import signal
import subprocess
import sys
import time
import uuid
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import openai
import pytest
from zeroconf import Zeroconf

from nexus.fleet.discovery.mdns.announcer import own_addresses
from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.client import ask, chat
from nexus.testing.ports import free_port
from nexus.testing.waiting import until
from tests.support.process import run_nexus, simulator_process

WITHIN_S = 15.0
pytestmark = pytest.mark.skipif(not own_addresses(), reason="this machine has no network")

CONFIG = """
[discovery]
enabled = true
interval_seconds = 0.2
grace_period_seconds = 1

[health_check]
interval_seconds = 0.5
"""


def server(name, port=0, model="llama3"):
    return Simulator(Settings(name=name, kind="ollama", models=(model,), host="0.0.0.0", port=port))


@contextlib.contextmanager
def announcing(port, name):
    command = [sys.executable, "-m", "nexus", "announce", "--port", str(port), "--name", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline().startswith(f"announcing '{name}', ollama on port {port}")
            yield process
        finally:
            process.kill()


@pytest.fixture
def name():
    """A name that no other test announces."""
    return f"desk-{uuid.uuid4().hex[:8]}"


def pending(nexus, name):
    return next((row for row in nexus.get_json("/admin/backends")["pending"] if row["name"] == name), None)


def backend(nexus, name):
    return next((row for row in nexus.get_json("/admin/backends")["backends"] if row["name"] == name), None)


def counted(nexus, state):
    page = ask(nexus.url, "/metrics").body.decode()
    start = f'nexus_discovered_servers{{source="mdns",state="{state}"}} '
    return next(float(line.removeprefix(start)) for line in page.splitlines() if line.startswith(start))


def post(nexus, path):
    with urlopen(Request(nexus.url + path, method="POST"), timeout=5) as answer:
        return json.loads(answer.read())


def test_a_server_is_found_approved_used_lost_and_found_again(start_nexus, name):
    port = free_port()
    nexus = start_nexus(CONFIG)
    with in_thread(simulator := server(name, port)), announcing(port, name) as announcer:
        found = until(lambda: (row := pending(nexus, name)) and row["backend_type"] and row, WITHIN_S)
        assert backend(nexus, name) is None
        assert (found["backend_type"], found["discovery_source"], found["trust"]) == ("ollama", "mdns", "pending")

        post(nexus, f"/admin/backends/{name}/approve")
        until(lambda: (row := backend(nexus, name)) and row["status"] == "healthy", WITHIN_S)
        with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="none", max_retries=0) as client:
            answer = client.chat.completions.create(model="llama3", messages=[{"role": "user", "content": "hi"}])
        assert answer.choices[0].message.content
        assert [record.request.method for record in simulator.requests if record.path.endswith("/completions")] == [
            "POST"
        ]
        # Without a goodbye: the network goes on to believe in it.
        announcer.send_signal(signal.SIGKILL)
    until(lambda: backend(nexus, name) is None, WITHIN_S)

    with in_thread(server(name, port)):
        again = until(lambda: (row := backend(nexus, name)) and row["status"] == "healthy" and row, WITHIN_S)

    assert again["discovery_source"] == "mdns"


def test_the_command_shows_approves_and_rejects_a_server(start_nexus, command, name):
    with in_thread(desk := server(name)), announcing(desk.port, name):
        nexus = start_nexus(CONFIG)
        until(lambda: (row := pending(nexus, name)) and row["backend_type"], WITHIN_S)

        listed = command("backends")
        as_json = json.loads(command("backends", "--json").stdout)
        approved = command("backends", "approve", name)
        until(lambda: backend(nexus, name), WITHIN_S)
        metrics = {state: counted(nexus, state) for state in ("pending", "approved", "rejected")}
        rejected = command("backends", "reject", name)

        assert (pending(nexus, name)["trust"], backend(nexus, name)) == ("rejected", None)

    (row,) = [line.split() for line in listed.stdout.splitlines() if line.startswith(name)]
    assert row[:3] == [name, "pending", "ollama"]
    assert name in {row["name"] for row in as_json["pending"]}
    assert approved.stdout.startswith(f"{name} is approved and ")
    told = "until the proxy ends, as its store keeps nothing: see [store] in the configuration"
    assert rejected.stdout == f"{name} is rejected; {told}\n"
    assert metrics["approved"] == 1.0
    assert metrics["rejected"] == 0.0


def test_a_server_that_is_not_approved_gets_no_prompt(start_nexus, name):
    model = f"only-{name}"
    with in_thread(rogue := server(name, model=model)):
        nexus = start_nexus(CONFIG)
        with announcing(rogue.port, name):
            until(lambda: (row := pending(nexus, name)) and row["backend_type"], WITHIN_S)
            body = json.dumps({"model": model, "messages": [{"role": "user", "content": "secret"}]}).encode()
            for path in ("/v1/chat/completions", "/api/chat", "/v1/messages", "/v1/responses"):
                with pytest.raises(HTTPError) as refused:
                    urlopen(Request(nexus.url + path, body, {"Content-Type": "application/json"}), timeout=10)
                with refused.value:
                    assert refused.value.code == 404
            listed = [row["id"] for row in nexus.get_json("/v1/models")["data"]]

            post(nexus, f"/admin/backends/{name}/reject")
            assert pending(nexus, name)["trust"] == "rejected"

    assert model not in listed
    assert {record.request.method for record in rogue.requests} == {"GET"}


def test_announcing_a_port_where_nothing_listens_says_so():
    port = free_port()

    told = subprocess.run(
        [sys.executable, "-m", "nexus", "announce", "--port", str(port)], capture_output=True, text=True, check=False
    )

    assert told.returncode == 1
    assert f"no server answers at http://127.0.0.1:{port}" in told.stderr


def test_a_proxy_that_announces_itself_is_found_by_clients_and_used_by_no_proxy(start_nexus, tmp_path_factory):
    announce = '[server]\nhost = "0.0.0.0"\n[discovery]\nannounce = true\n'
    with (
        run_nexus(tmp_path_factory.mktemp("announcing"), announce, arguments=("--insecure",)) as announcing,
        Zeroconf() as network,
    ):
        (announced,) = announcing.wait_for_log("announced", within_s=10)
        nexus = start_nexus(CONFIG)

        service = "_llm._tcp.local."
        info = network.get_service_info(service, f"{announced['name']}.{service}", 5000)
        time.sleep(2)
        pages = nexus.get_json("/admin/backends")

    assert (info.port, info.decoded_properties["type"]) == (announcing.port, "nexus")
    assert announced["name"] not in {row["name"] for row in (*pages["pending"], *pages["backends"])}


def test_no_prompt_goes_to_another_kind_of_server_at_an_approved_address(start_nexus):
    address, port = own_addresses()[0], free_port()
    scan = f'[[discovery.hosts]]\nhosts = ["{address}/32:{port}"]\nrescan_seconds = 0.2\n'
    nexus = start_nexus(CONFIG.replace("enabled = true", "enabled = false") + scan)
    place = f"{address}:{port}"
    words = ("--host", "0.0.0.0", "--port", str(port), "--kind")
    with simulator_process(*words, "vllm"):
        until(lambda: (pending(nexus, place) or {}).get("backend_type") == "vllm", WITHIN_S)
        post(nexus, f"/admin/backends/{place}/approve")
        until(lambda: (backend(nexus, place) or {}).get("status") == "healthy", WITHIN_S)

    with simulator_process(*words, "ollama"):
        (change,) = until(lambda: [e for e in nexus.log_lines("backend_status_changed") if "place" in str(e)], WITHIN_S)
        refused = ask(nexus.url, "/v1/chat/completions", chat())

    assert change["error"] == "another server has taken its place: its kind is 'ollama', not 'vllm'"
    assert refused.status in {404, 503}
