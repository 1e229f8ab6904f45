"""Forged mDNS packets by the thousand: what was approved is not disturbed, and all else stays bounded."""

import random
import socket
import statistics
import struct
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from zeroconf import IPVersion, ServiceInfo, Zeroconf

from nexus.fleet.discovery.approval.applicants import MAX_APPLICANTS, MAX_PER_HOST
from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.client import ask, chat
from nexus.testing.waiting import until
from tests.support.lan import lan, why_no_lan
from tests.support.process import run_nexus

PORT = 11434
GROUP = ("224.0.0.251", 5353)
OLLAMA = "_ollama._tcp.local"
DESK = f"desk.{OLLAMA}"
FLUSH = 0x8001
"""The class IN, and that earlier records of the name are void."""
ATTACKER = "192.168.77.3"
WHOLE_NETWORK = "10.9"
"""Routed to the attacker, who answers at each of its addresses."""
MANY_PORTS = range(2_000, 2_040)
LONGEST_ANSWER_S = 0.5
"""Of 49 in 50, while packets come in by the thousand; a few hundredths on a machine that does nothing else. Of such a
flood, the kernel drops packets of other connections too, which are sent again after a second."""
CONFIG = """
[discovery]
interval_seconds = 0.3
grace_period_seconds = 3
[health_check]
interval_seconds = 1
"""

pytestmark = pytest.mark.skipif(why_no_lan() is not None, reason=str(why_no_lan()))


# packets


def encoded(name):
    return b"".join(bytes((len(label),)) + label for label in name.encode().split(b".")) + b"\0"


def record(name, kind, content, *, ttl=4500, of_class=FLUSH):
    return encoded(name) + struct.pack("!HHIH", kind, of_class, ttl, len(content)) + content


def pointer(instance, **options):
    return record(OLLAMA, 12, encoded(instance), of_class=1, **options)


def service(instance, host, port, **options):
    return record(instance, 33, struct.pack("!HHH", 0, 0, port) + encoded(host), **options)


def text(instance, **options):
    return record(instance, 16, b"\x0btype=ollama", **options)


def address(host, ip, **options):
    return record(host, 1, socket.inet_aton(ip), **options)


def packet(*records):
    return struct.pack("!6H", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def announcement(instance, host, ip, port=PORT, **options):
    return packet(
        pointer(instance, **options),
        service(instance, host, port, **options),
        text(instance, **options),
        address(host, ip, **options),
    )


def silent_names():
    """Each with a host of its own, at which nothing answers."""
    for number in range(10_000):
        ip = f"192.168.77.{100 + number % 100}"
        yield announcement(f"silent-{number}.{OLLAMA}", f"silent-{number}.local", ip)


def different_names():
    """Each with a host of its own, at which the attacker answers."""
    for number in range(10_000):
        ip = f"{WHOLE_NETWORK}.{number // 250}.{number % 250 + 1}"
        yield announcement(f"name-{number}.{OLLAMA}", f"host-{number}.local", ip)


def one_host():
    """Of one host, at forty ports that answer."""
    for number in range(10_000):
        yield announcement(f"one-{number}.{OLLAMA}", "one.local", ATTACKER, MANY_PORTS[number % len(MANY_PORTS)])


def only_pointers():
    """Names that nothing resolves."""
    for number in range(10_000):
        yield packet(pointer(f"pointer-{number}.{OLLAMA}"))


def broken():
    chance = random.Random(5353)
    whole = announcement(f"cut.{OLLAMA}", "cut.local", "192.168.77.99")
    head = struct.pack("!6H", 0, 0x8400, 0, 1, 0, 0)
    to_itself = head + b"\xc0\x0c" + struct.pack("!HHIH", 12, 1, 4500, 2) + b"\xc0\x0c"
    to_and_fro = head + b"\xc0\x0e\xc0\x0c" + struct.pack("!HHIH", 12, 1, 4500, 2) + b"\xc0\x0c"
    too_many = struct.pack("!6H", 0, 0x8400, 0, 0xFFFF, 0xFFFF, 0xFFFF) + whole[12:]
    for _ in range(300):
        spoilt = bytearray(whole)
        for place in chance.sample(range(12, len(whole)), 4):
            spoilt[place] = chance.randrange(256)
        yield from (chance.randbytes(chance.randrange(1, 1400)), whole[: chance.randrange(len(whole))], bytes(spoilt))
        yield from (to_itself, to_and_fro, too_many)


def goodbyes():
    for _ in range(1_000):
        yield announcement(DESK, "desk.local", "192.168.77.2", ttl=0)
        yield packet(pointer(DESK, ttl=0))


def other_addresses():
    for number in range(1_000):
        yield announcement(DESK, "desk.local", ATTACKER if number % 2 else f"192.168.77.{100 + number % 100}")


def other_places():
    """The name of the approved server, with hosts and ports of another."""
    for number in range(1_000):
        yield announcement(DESK, f"host-{number % 64}.local", ATTACKER, PORT)


# the network


class Asking(threading.Thread):
    """Asks a proxy again and again, from its machine, and keeps how long each answer took."""

    def __init__(self, nexus):
        super().__init__(daemon=True)
        self.took_s = []
        self.failed = []
        self._nexus = nexus
        self._is_over = threading.Event()

    def run(self):
        while not self._is_over.wait(0.01):
            began = time.monotonic()
            try:
                answer = ask(self._nexus.url, "/v1/chat/completions", chat())
            except OSError as exc:
                self.failed.append(repr(exc))
                continue
            self.took_s.append(time.monotonic() - began)
            if answer.status != 200:
                self.failed.append(answer.body)

    def end(self):
        self._is_over.set()
        self.join()


def serve(running, machine, name, port=PORT):
    """Start a server on a machine, and announce it as its own host does."""
    with machine.entered():
        server = Simulator(Settings(name=name, kind="ollama", models=("llama3",), host="0.0.0.0", port=port))
        running.enter_context(in_thread(server))
        network = Zeroconf(ip_version=IPVersion.V4Only)
        running.callback(network.close)
    info = ServiceInfo(
        f"{OLLAMA}.",
        f"{name}.{OLLAMA}.",
        port=port,
        parsed_addresses=[machine.address],
        server=f"{machine.name}.local.",
    )
    network.register_service(info)
    return server


def resident_mib(pid):
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


class Scene:
    """A proxy that uses the approved server 'desk', and another machine that is to disturb it."""

    def __init__(self, running, folder):
        self.network = running.enter_context(lan())
        self.desk, self.attacker, self.proxy = map(self.network.machine, ("desk", "attacker", "proxy"))
        self._running = running
        self.server = serve(running, self.desk, "desk")
        self.attacker.sh(f"ip route add local {WHOLE_NETWORK}.0.0/16 dev lo")
        self.proxy.sh(f"ip route add {WHOLE_NETWORK}.0.0/16 via {ATTACKER}")
        with self.attacker.entered():
            self.rogues = [
                Simulator(Settings(name="rogue", kind="ollama", models=("llama3",), host="0.0.0.0", port=port))
                for port in (PORT, *MANY_PORTS)
            ]
            running.enter_context(in_thread(*self.rogues))
        with self.proxy.entered():
            self.nexus = running.enter_context(run_nexus(folder, CONFIG))
            until(lambda: any(row["backend_type"] for row in self.page()["pending"]), within_s=20)
            ask(self.nexus.url, "/admin/backends/desk/approve", method="POST")
        until(lambda: self.row() and self.row()["status"] == "healthy", within_s=20)
        with self.attacker.entered():
            self._socket = running.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            self._socket.bind((ATTACKER, 5353))
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(ATTACKER))

    def page(self, path="/admin/backends"):
        with self.proxy.entered():
            return self.nexus.get_json(path)

    def metrics(self):
        with self.proxy.entered():
            return ask(self.nexus.url, "/metrics").body.decode().splitlines()

    def row(self):
        return next((row for row in self.page()["backends"] if row["name"] == "desk"), None)

    def send(self, packets):
        """Send at most so many packets a second as get through: what is dropped on the way proves nothing."""
        for number, each in enumerate(packets()):
            self._socket.sendto(each, GROUP)
            if number % 20 == 19:
                time.sleep(0.003)

    def asking(self):
        with self.proxy.entered():
            asking = Asking(self.nexus)
            asking.start()
        self._running.callback(asking.end)
        return asking

    def amounts(self):
        """Return what an attacker could make grow: series of metrics, lines of the log, memory in MiB."""
        lines = len(self.nexus.log_lines()) - len(self.nexus.log_lines("exchange_finished"))
        return len(self.metrics()), lines, resident_mib(self.nexus.process.pid)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    with ExitStack() as running:
        yield Scene(running, tmp_path_factory.mktemp("proxy"))


@pytest.mark.parametrize(
    ("packets", "listed"),
    [
        (broken, 0),
        (goodbyes, 0),
        (other_addresses, 0),
        (other_places, 1),
        (one_host, MAX_PER_HOST),
        (different_names, MAX_APPLICANTS - 8),
        (only_pointers, 0),
        (silent_names, 0),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_approved_server_is_used_whatever_is_announced(scene, packets, listed):
    before, amounts = scene.row(), scene.amounts()

    asking = scene.asking()
    scene.send(packets)
    # Beside it, requests go on.
    until(lambda: len(asking.took_s) > 150, within_s=20)
    until(lambda: len(scene.page()["pending"]) >= listed, within_s=40)
    asking.end()

    after, pending = scene.row(), scene.page()["pending"]
    series, lines, mib = (now - then for now, then in zip(scene.amounts(), amounts, strict=True))
    per_host = Counter(row["url"].rpartition(":")[0] for row in pending)
    assert asking.failed == []
    assert statistics.quantiles(asking.took_s, n=50)[-1] < LONGEST_ANSWER_S
    assert (after["url"], after["status"], after["status_since"]) == (before["url"], "healthy", before["status_since"])
    assert len(pending) < MAX_APPLICANTS
    assert max(per_host.values(), default=0) <= MAX_PER_HOST
    assert scene.nexus.log_lines("task_failed") == []
    assert (series < 100, lines < 60, mib < 40) == (True, True, True), (series, lines, mib)


def test_an_approved_server_comes_back_where_there_is_no_room_left(scene):
    before = scene.row()
    scene.send(different_names)
    until(lambda: len(scene.page()["pending"]) >= MAX_APPLICANTS - 8, within_s=40)
    scene.network.set_link(scene.desk, up=False)
    until(lambda: scene.row() is None, within_s=20)

    scene.send(one_host)
    scene.network.set_link(scene.desk, up=True)
    after = until(lambda: (row := scene.row()) and row["status"] == "healthy" and row, within_s=20)

    assert after["url"] == before["url"]
    assert [record.path for rogue in scene.rogues for record in rogue.requests if record.request.method != "GET"] == []
