"""A proxy that discovers its whole fleet, by DNS, mDNS and Kubernetes, while each of these misbehaves."""

import contextlib
import importlib.util
import itertools
import json
import re
import subprocess
import sys
import threading
import uuid
from collections import Counter
from pathlib import Path

import pytest
from dnslib import RCODE
from zeroconf import IPVersion, ServiceInfo, Zeroconf

from nexus.fleet.discovery.mdns.announcer import own_addresses
from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.client import ask
from nexus.testing.ports import free_port
from nexus.testing.waiting import until
from tests.support.bookkeeping import DEFECTS
from tests.support.name_server import NameServer
from tests.support.process import run_nexus

FAKE_API = Path(__file__).parents[3] / "plugins/kubernetes/tests/fake_api.py"
HAS_NETWORK = bool(own_addresses())
SPARE_FILES = 12
"""Room for pooled connections and for a resolver that is first used during the tests."""
SHARED, LONELY = "llama3", "lonely"
"""A model on two servers, and one on the faulty server alone."""

if not all(map(importlib.util.find_spec, ("nexus_kubernetes", "kubernetes_asyncio"))):
    collect_ignore_glob = ["test_*.py"]

CONFIG = """
[server]
request_timeout_seconds = 10
stream_timeout_seconds = 10
max_body_bytes = 25_000_000
[timeouts]
connect_seconds = 0.5
first_byte_seconds = 0.4
whole_answer_seconds = 0.5
stream_idle_seconds = 0.5
write_stall_seconds = 0.5
body_seconds = 2
[limits]
max_event_bytes = 1_000_000
[health_check]
interval_seconds = 0.5
timeout_seconds = 1
[queue]
max_wait_seconds = 2
[routing]
strategy = "priority_only"
[discovery]
enabled = true
interval_seconds = 0.2
grace_period_seconds = 0.5
trust = "allow"
allow = ["{friends}-*"]
nameservers = ["127.0.0.1:{name_server}"]
[[discovery.dns]]
name = "_llm._tcp.well.test"
type = "vllm"
[[discovery.dns]]
name = "_llm._tcp.broken.test"
[[discovery.dns]]
name = "flapping.test"
port = {closed}
[[discovery.file]]
path = "{fleet_file}"
[[discovery.hosts]]
hosts = ["127.0.0.1"]
ports = [{at_a_port}, {closed}]
"""
KUBERNETES = """
[plugins.kubernetes]
kubeconfig = "{kubeconfig}"
[[plugins.kubernetes.services]]
service = "vllm"
type = "vllm"
[[plugins.kubernetes.services]]
service = "tls"
type = "vllm"
tls = true
[[plugins.kubernetes.services]]
service = "forbidden"
"""
MISBEHAVING = """
import asyncio, time
from pathlib import Path
from nexus.api import Discovered, Discoverer, hookimpl

class Raises(Discoverer):
    name = "raises"
    async def watch(self):
        yield (Discovered("raised", "http://127.0.0.1:{closed}"),)
        await asyncio.sleep(0.05)
        raise ValueError("out of order")

class Hangs(Discoverer):
    name = "hangs"
    async def watch(self):
        await asyncio.Event().wait()
        yield ()

class Lies(Discoverer):
    name = "lies"
    async def watch(self):
        yield ("no server",)

class Cancels(Discoverer):
    name = "cancels"
    async def watch(self):
        yield ()
        raise asyncio.CancelledError

class Blocks(Discoverer):
    name = "blocks"
    async def watch(self):
        while True:
            yield ()
            await asyncio.sleep(0.02)
            if Path("block").exists():
                Path("block").unlink()
                time.sleep(0.2)

@hookimpl
def nexus_discoverers(config):
    return [Raises(), Hangs(), Lies(), Cancels(), Blocks()]
"""
MISBEHAVING_TASKS = {"discover-raises", "discover-lies", "discover-cancels"}


class Cluster:
    """Pods on loopback addresses, each in its own endpoint slice."""

    def __init__(self, fake_api, api, call):
        self._fake_api = fake_api
        self.api = api
        self.call = call

    def put(self, name, port, *, address="127.0.0.1", service="vllm", address_type="IPv4", **conditions):
        pod = self._fake_api.pod(name, address, **conditions)
        each = self._fake_api.slice_of(
            f"s-{name}", pod, service=service, ports=[("http", port)], address_type=address_type
        )
        self.call(self.api.put, each)

    def delete(self, name):
        self.call(self.api.delete, f"s-{name}")


class Announcer:
    """Announces servers of this machine by mDNS."""

    def __init__(self, network):
        self._network = network
        self._announced = {}

    def put(self, name, port, service_type="_llm._tcp.local."):
        info = ServiceInfo(
            service_type,
            f"{name}.{service_type}",
            port=port,
            parsed_addresses=own_addresses()[:1],
            server=f"{name}.local.",
        )
        self._network.register_service(info, cooperating_responders=True)
        self._announced[name] = info

    def delete(self, name):
        self._network.unregister_service(self._announced.pop(name))


class Found:
    """A proxy and the servers that it can discover."""

    def __init__(self, nexus, zone, cluster, announcer, servers, friends):
        self.nexus = nexus
        self.zone = zone
        self.cluster = cluster
        self.announcer = announcer
        self.well, self.faulty, self.desk, self.rogue, self.listed, self.at_a_port = servers
        self.friends = friends
        self._numbers = itertools.count()

    @property
    def well_name(self):
        return f"gpu-{self.well.port}.test:{self.well.port}"

    @property
    def desk_name(self):
        return f"{self.friends}-desk"

    @property
    def rogue_name(self):
        return f"rogue-{self.friends}"

    def pending(self):
        return self.nexus.get_json("/admin/backends")["pending"]

    def rows(self):
        return {row["name"]: row for row in self.nexus.get_json("/admin/backends")["backends"]}

    def is_healthy(self, name):
        return self.rows().get(name, {}).get("status") == "healthy"

    @contextlib.contextmanager
    def pod(self):
        """Announce the faulty server under a new name, which has no history of failures."""
        name = f"pod-{next(self._numbers)}"
        self.cluster.put(name, self.faulty.port)
        try:
            until(lambda: self.is_healthy(name), within_s=10)
            yield name
        finally:
            self.faulty.faults.clear()
            self.cluster.delete(name)

    def held(self):
        """Return the gauges of requests in flight that are not zero."""
        backends = {name: row["pending_requests"] for name, row in self.rows().items() if row["pending_requests"]}
        gauges = re.findall(
            r"^(nexus_requests_in_flight|nexus_queue_depth)\S* ([1-9]\S*)$", self.metrics(), re.MULTILINE
        )
        return backends | dict(gauges)

    def metrics(self):
        return ask(self.nexus.url, "/metrics").body.decode()

    def defects(self):
        """Return the log lines that mean a bug, without those of the discoverers that fail on purpose."""
        lines = self.nexus.log_lines()
        told = Counter(line["request_id"] for line in lines if line["event"] == "exchange_finished")
        return [
            *(line for line in lines if line["event"] in DEFECTS and line.get("task") not in MISBEHAVING_TASKS),
            *(line for line in self.nexus.log_text().splitlines() if not line.startswith("{")),
            *(f"{request_id} has {times} access lines" for request_id, times in told.items() if times > 1),
        ]

    def check(self):
        """Run ``nexus-proxy check`` with the configuration of the proxy."""
        file = self.nexus.config_file
        plugin = str(file.with_name("misbehaving.py"))
        words = ("check", "--config", str(file), "--plugin", plugin)
        command = [sys.executable, "-m", "nexus", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=40, check=False, cwd=file.parent)

    def open_files(self):
        return sum(1 for _ in Path(f"/proc/{self.nexus.process.pid}/fd").iterdir())


class Churn(threading.Thread):
    """Changes everything that discovery observes, until it is stopped."""

    def __init__(self, found, closed):
        super().__init__(name="churn")
        self._found = found
        self._closed = closed
        self._is_over = threading.Event()
        self.failures = []

    def run(self):
        try:
            for number in itertools.count():
                if self._is_over.wait(0.1):
                    return
                self._change(number)
        except Exception as exc:  # noqa: BLE001 - told by the test
            self.failures.append(exc)

    def stop(self):
        self._is_over.set()
        self.join()

    def _change(self, number):
        found = self._found
        found.zone.code = RCODE.SERVFAIL if number % 4 == 3 else RCODE.NOERROR
        for service in ("vllm", "tls"):
            if number % 2:
                found.cluster.delete(f"dead-{service}")
            else:
                found.cluster.put(f"dead-{service}", self._closed, service=service)
        entries = [
            {"name": "listed", "url": found.listed.url},
            {"name": "dead", "url": f"http://127.0.0.1:{self._closed}"},
        ]
        text = json.dumps(entries[: 1 + number % 2])
        found.fleet_file.write_text(text if number % 5 else text[:-9])
        if number % 16 == 9:
            found.cluster.call(found.cluster.api.drop_watches)
        if number % 16 == 1:
            found.cluster.call(found.cluster.api.expire)
        if HAS_NETWORK and number % 8 == 4:
            port = self._closed if number % 16 == 4 else found.desk.port
            found.announcer.put(f"{found.friends}-churn", port)
        if HAS_NETWORK and number % 8 == 0 and number:
            found.announcer.delete(f"{found.friends}-churn")


@pytest.fixture(scope="session")
def fake_api():
    spec = importlib.util.spec_from_file_location("fake_api_server", FAKE_API)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def servers(**settings):
    """Run a healthy server, a faulty one, two that announce themselves, one that a file lists, and one at a port."""

    def simulator(name, *models, **more):
        return Simulator(Settings(name=name, kind="vllm", models=models, **more, **settings))

    simulators = (
        simulator("well", SHARED),
        simulator("faulty", SHARED, LONELY),
        simulator("desk", "desk", host="0.0.0.0"),
        simulator("rogue", SHARED, "rogue", host="0.0.0.0"),
        simulator("listed", "listed"),
        simulator("at-a-port", "at-a-port"),
    )
    with in_thread(*simulators):
        yield simulators


@contextlib.contextmanager
def network():
    if not HAS_NETWORK:
        yield None
        return
    with Zeroconf(ip_version=IPVersion.V4Only) as zeroconf:
        yield Announcer(zeroconf)


@contextlib.contextmanager
def found_fleet(folder, fake_api, *, change=lambda text: text, arguments=(), is_reachable=True, **settings):
    """Start a proxy with all discoverers, and wait until it has found the healthy servers.

    :param change: of the text of the configuration.
    :param is_reachable: whether name servers and the API server answer.
    :param settings: those of the simulators.
    """
    closed, friends = free_port(), f"t{uuid.uuid4().hex[:6]}"
    with (
        servers(**settings) as simulators,
        NameServer() as zone,
        fake_api.in_thread() as (api, url, call),
        network() as announcer,
    ):
        well, _, desk, rogue, listed, at_a_port = simulators
        zone.serve("_llm._tcp.well.test", closed, well.port)
        zone.codes["_llm._tcp.broken.test"] = RCODE.SERVFAIL
        zone.alternate("flapping.test", "127.0.0.2", "127.0.0.3")
        api.refused["forbidden"] = 403
        zone.is_silent, api.is_hanging = not is_reachable, not is_reachable
        (folder / "kubeconfig").write_text(fake_api.kubeconfig(url, "llm"))
        (folder / "misbehaving.py").write_text(MISBEHAVING.format(closed=closed))
        fleet_file = folder / "fleet.json"
        fleet_file.write_text(json.dumps([{"name": listed.name, "url": listed.url}]))
        text = CONFIG.format(
            friends=friends, name_server=zone.port, closed=closed, fleet_file=fleet_file, at_a_port=at_a_port.port
        )
        text = change(text + KUBERNETES.format(kubeconfig=folder / "kubeconfig"))
        arguments = ("--plugin", str(folder / "misbehaving.py"), *arguments)
        with run_nexus(folder, text, arguments=arguments) as nexus:
            found = Found(nexus, zone, Cluster(fake_api, api, call), announcer, simulators, friends)
            found.closed, found.fleet_file = closed, fleet_file
            if HAS_NETWORK:
                announcer.put(found.desk_name, desk.port)
                announcer.put(found.rogue_name, rogue.port)
            wanted = {
                listed.name,
                *([found.well_name] if is_reachable else []),
                *([found.desk_name] if HAS_NETWORK else []),
            }
            until(lambda: all(map(found.is_healthy, wanted)), within_s=15)
            yield found


@pytest.fixture
def start_found(tmp_path, fake_api):
    """Return a function that starts a fleet without churn."""
    with contextlib.ExitStack() as running:
        yield lambda **options: running.enter_context(found_fleet(tmp_path, fake_api, **options))


@pytest.fixture(scope="module")
def found(tmp_path_factory, fake_api):
    """A fleet with constant churn, which the tests of a module share."""
    with found_fleet(tmp_path_factory.mktemp("found"), fake_api) as found:
        files_at_rest = found.open_files()
        churn = Churn(found, found.closed)
        churn.start()
        try:
            yield found
        finally:
            churn.stop()
        assert churn.failures == []
        assert found.defects() == []
        assert {record.request.method for record in found.rogue.requests} <= {"GET"}
        until(lambda: found.open_files() <= files_at_rest + SPARE_FILES)
