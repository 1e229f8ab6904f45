"""Machines in a network of their own: servers that are announced there are found, approved, used, lost, found again."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import dedent

import openai
import pytest
from zeroconf import IPVersion, ServiceInfo, Zeroconf

from nexus.simulator import Settings, SimulatedModel, Simulator, in_thread
from nexus.testing.client import ask, chat
from nexus.testing.waiting import until
from tests.support.lan import lan, why_no_lan
from tests.support.process import run_nexus

DOCS = Path(__file__).parents[2] / "docs"
PORT = 11434
CHAT = "/v1/chat/completions"
CONFIG = """
[discovery]
interval_seconds = 0.3
grace_period_seconds = 3

[health_check]
interval_seconds = 0.3
"""

pytestmark = pytest.mark.skipif(why_no_lan() is not None, reason=str(why_no_lan()))


@pytest.fixture
def network():
    with lan() as network:
        yield network


@pytest.fixture
def running():
    with ExitStack() as running:
        yield running


@pytest.fixture
def start_on(running, tmp_path_factory):
    """Start a proxy on a machine."""

    def start(machine, config=CONFIG, **options):
        with machine.entered():
            return running.enter_context(run_nexus(tmp_path_factory.mktemp(machine.name), config, **options))

    return start


class Server:
    """A server of one machine, and what announces it: processes that end without a word."""

    def __init__(self, machine, **options):
        self.machine = machine
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        with machine.entered():
            serves = [sys.executable, "-m", "nexus.simulator", "--port", str(PORT), "--name", machine.name, *words]
            self._processes = [subprocess.Popen(serves, stdout=subprocess.PIPE, text=True)]
            assert "listens" in self._processes[0].stdout.readline()
            announces = [sys.executable, "-m", "nexus", "announce", "--port", str(PORT)]
            self._processes.append(subprocess.Popen(announces, stdout=subprocess.PIPE, text=True))

    def is_announced(self):
        # A number is added when another machine announces the name.
        return self._processes[1].stdout.readline().startswith(f"announcing '{self.machine.name}")

    def kill(self):
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()


@pytest.fixture
def serve(running):
    """Start servers on machines, all of them at once, and wait until they are announced."""

    def serve(*machines, **options):
        servers = [Server(machine, **{"kind": "ollama", "host": "0.0.0.0", **options}) for machine in machines]
        for server in servers:
            running.callback(server.kill)
        assert all(server.is_announced() for server in servers)
        return servers

    return serve


@contextmanager
def forging(machine, *announced):
    """Announce, without any consideration for others: (label, service type, port, hints)."""
    with machine.entered():
        network = Zeroconf(ip_version=IPVersion.V4Only)
    try:
        for label, service_type, port, hints in announced:
            name = f"{label}.{service_type}.local."
            info = ServiceInfo(
                f"{service_type}.local.",
                name,
                port=port,
                parsed_addresses=[machine.address],
                server=f"{machine.name}.local.",
                properties=hints,
            )
            network.register_service(info, cooperating_responders=True)
        yield
    finally:
        network.close()


def commands_of(page, section):
    """Return the commands that a section of *page* shows, a text for each block."""
    text = (DOCS / page).read_text().partition(f"\n{section}\n----")[2]
    return [dedent(block).strip() for block in re.findall(r"code-block:: sh\n\n((?:   .*\n|\n)+)", text)]


def look(machine, nexus):
    """Return what a proxy says of its servers, by name: those in the fleet, and those that wait."""
    with machine.entered():
        page = nexus.get_json("/admin/backends")
    return tuple({row["name"]: row for row in page[part]} for part in ("backends", "pending"))


def recognised(machine, nexus, names):
    pending = look(machine, nexus)[1]
    return set(names) <= {name for name, row in pending.items() if row["backend_type"]} and pending


def healthy(machine, nexus, names):
    fleet = look(machine, nexus)[0]
    return set(names) <= {name for name, row in fleet.items() if row["status"] == "healthy"} and fleet


def approve(machine, nexus, *names):
    with machine.entered():
        for name in names:
            words = [sys.executable, "-m", "nexus", "backends", "approve", name, "--url", nexus.url]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.stdout.startswith(f"{name} is approved"), done.stderr


def prompts(simulator):
    return [record.path for record in simulator.requests if record.request.method != "GET"]


def test_servers_are_found_approved_used_lost_and_found_again(network, start_on, serve, running):
    names = ("gpu-1", "gpu-2", "gpu-3")
    machines = [network.machine(name) for name in names]
    stranger, proxy = network.machine("stranger"), network.machine("proxy")
    servers = serve(*machines)
    with stranger.entered():
        rogues = [
            Simulator(Settings(name=name, kind="ollama", models=("llama3", "only-here"), host="0.0.0.0"))
            for name in ("rogue", "gpu-1")
        ]
        running.enter_context(in_thread(*rogues))
    forged = [(rogue.settings.name, "_ollama._tcp", rogue.port, {}) for rogue in rogues]
    nexus = start_on(proxy)

    # Found, by a proxy that was told of none, and given nothing before they are approved.
    pending = until(lambda: recognised(proxy, nexus, names), within_s=20)
    with proxy.entered():
        unused = ask(nexus.url, CHAT, chat())
    approve(proxy, nexus, *names)
    until(lambda: healthy(proxy, nexus, names), within_s=20)
    assert {pending[machine.name]["url"] for machine in machines} == {f"http://{m.address}:{PORT}" for m in machines}
    assert unused.status == 404

    # Used by a client, while another machine announces one of their names.
    running.enter_context(forging(stranger, *forged))
    until(lambda: recognised(proxy, nexus, ("rogue", f"gpu-1-{rogues[1].port}")), within_s=20)
    with proxy.entered(), openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="none", max_retries=0) as client:
        for _ in range(30):
            client.chat.completions.create(model="llama3", messages=[{"role": "user", "content": "secret"}])
        only_there = ask(nexus.url, CHAT, chat("only-here"))
    used = look(proxy, nexus)[0]
    assert only_there.status == 404
    assert sum(used[name]["total_requests"] for name in names) == 30
    assert min(used[name]["total_requests"] for name in names) > 0

    # Lost without a goodbye: one is killed, the cable of another is pulled out for longer than the grace period.
    servers[0].kill()
    network.set_link(machines[1], up=False)
    until(lambda: (row := look(proxy, nexus)[0].get("gpu-1")) and row["status"] == "unhealthy", within_s=20)
    serve(machines[0])
    until(lambda: healthy(proxy, nexus, ["gpu-1"]), within_s=20)
    until(lambda: "gpu-2" not in look(proxy, nexus)[0], within_s=20)
    network.set_link(machines[1], up=True)

    # Found again, each as what it was.
    again = until(lambda: healthy(proxy, nexus, names), within_s=20)
    assert again["gpu-1"]["url"] == used["gpu-1"]["url"]
    assert again["gpu-1"]["total_requests"] == used["gpu-1"]["total_requests"]

    # And one that is another kind of server now is asked about again.
    servers[2].kill()
    with machines[2].entered():
        changed = Simulator(Settings(name="gpu-3", kind="vllm", models=("llama3",), host="0.0.0.0", port=PORT))
        running.enter_context(in_thread(changed))
    running.enter_context(forging(machines[2], ("gpu-3", "_ollama._tcp", PORT, {"type": "ollama"})))
    waiting = until(lambda: recognised(proxy, nexus, ["gpu-3"]), within_s=20)
    with proxy.entered():
        answered = [ask(nexus.url, CHAT, chat()) for _ in range(10)]
    assert waiting["gpu-3"]["backend_type"] == "vllm"
    assert {answer.status for answer in answered} == {200}
    assert [prompts(server) for server in (*rogues, changed)] == [[], [], []]


def test_a_server_that_has_only_a_link_local_address_is_found_and_used(network, start_on, serve):
    desk, proxy = network.machine("desk", ipv4=False), network.machine("proxy", ipv4=False)
    serve(desk, host="::")
    nexus = start_on(proxy)

    found = until(lambda: recognised(proxy, nexus, ["desk"]), within_s=20)["desk"]
    approve(proxy, nexus, "desk")
    until(lambda: healthy(proxy, nexus, ["desk"]), within_s=20)
    with proxy.entered():
        answer = ask(nexus.url, CHAT, chat())

    assert found["url"].startswith("http://[fe80::")
    assert found["url"].endswith(f"%25eth0]:{PORT}")
    assert (answer.status, answer.headers["X-Nexus-Backend"]) == (200, "desk")


def test_servers_behind_an_interface_that_appears_later_are_found(network, start_on, running):
    desk, proxy = network.machine("desk"), network.machine("proxy", is_plugged_in=False)
    with desk.entered():
        server = Simulator(Settings(name="desk", kind="ollama", models=("llama3",), host="0.0.0.0", port=PORT))
        running.enter_context(in_thread(server))
    running.enter_context(forging(desk, ("desk", "_ollama._tcp", PORT, {})))
    nexus = start_on(proxy)
    before = look(proxy, nexus)

    network.plug_in(proxy)

    until(lambda: recognised(proxy, nexus, ["desk"]), within_s=20)
    assert before == ({}, {})


def test_two_proxies_that_announce_themselves_do_not_use_each_other(network, start_on, serve):
    ours, theirs, desk = (network.machine(name) for name in ("ours", "theirs", "desk"))
    announce = '[server]\nhost = "0.0.0.0"\nlame_duck_seconds = 0\n' + CONFIG.replace(
        "[discovery]", "[discovery]\nannounce = true"
    )
    circle = '[[backends]]\nname = "other"\nurl = "http://{}:8000"\ntype = "generic"\naccepts_any_model = true\n'
    proxies = [
        (machine, start_on(machine, announce, port=8000, arguments=("--insecure",))) for machine in (ours, theirs)
    ]
    serve(desk)

    for machine, nexus in proxies:
        until(lambda machine=machine, nexus=nexus: recognised(machine, nexus, ["desk"]), within_s=20)
        nexus.wait_for_log("announced", within_s=10)
    seen = [look(machine, nexus) for machine, nexus in proxies]
    for (machine, nexus), other in zip(proxies, (theirs, ours), strict=True):
        nexus.config_file.write_text(announce + circle.format(other.address))
        nexus.send(signal.SIGHUP)
        until(lambda machine=machine, nexus=nexus: look(machine, nexus)[0], within_s=20)
    with ours.entered():
        answer = ask(proxies[0][1].url, CHAT, chat("any"))

    assert [(list(fleet), list(pending)) for fleet, pending in seen] == [([], ["desk"])] * 2
    assert answer.status == 508
    assert json.loads(answer.body)["error"]["code"] == "loop_detected"


def test_the_commands_of_the_tutorial_find_approve_and_use_a_server(network, running, tmp_path):
    desk, ours = network.machine("desk"), network.machine("ours")
    announce, serve, curl, listing = commands_of("tutorial/first-proxy.rst", "Without a configuration")
    show, approve = listing.splitlines()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = inherited | {"PATH": path, "XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path)}

    def start(machine, command):
        with machine.entered():
            words = ["sh", "-euc", f"exec {command}"]
            process = subprocess.Popen(words, cwd=tmp_path, env=environ, stdout=subprocess.DEVNULL, stderr=-2)
        running.enter_context(process)
        running.callback(process.terminate)

    def ran(command):
        with ours.entered():
            words = ["sh", "-euc", command]
            return subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False).stdout

    with desk.entered():
        model = SimulatedModel("llama3.2")
        server = Simulator(Settings(name="desk", kind="ollama", models=(model,), host="0.0.0.0", port=PORT))
        running.enter_context(in_thread(server))
    start(desk, announce)
    start(ours, serve)

    until(lambda: re.search(r"^desk +pending +ollama", ran(show), re.MULTILINE), within_s=30)
    waits = ran("nexus-proxy health")
    before = json.loads(ran(curl))
    approved = ran(approve)
    answer = until(lambda: "choices" in (told := json.loads(ran(curl))) and told, within_s=10)

    assert "1 server that was found waits for approval" in waits
    assert before["error"]["code"] == "model_not_found"
    assert approved.startswith("desk is approved")
    assert answer["choices"][0]["message"]["content"].startswith("desk: ")
    assert [path for path in prompts(server) if path != "/api/show"] == [CHAT]
