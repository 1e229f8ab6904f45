"""A local network of several machines on one Linux machine, made of namespaces and a bridge."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

SUBNET: Final = "192.168.77"
TOOLS: Final = ("unshare", "nsenter", "ip")
NAMESPACES: Final = {"net": 0x4000_0000, "uts": 0x0400_0000}
"""The namespaces of each machine, with the flags of setns(2)."""
HOLD: Final = "ip link set lo up && hostname {name} && echo ready && exec cat"
"""Keeps the namespaces alive until its standard input is closed, at the latest when the tests end."""


def why_no_lan() -> str | None:
    """Return why such a network is impossible here; None if it is possible."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if missing := [name for name in TOOLS if shutil.which(name) is None]:
        return f"{', '.join(missing)} not installed"
    links = "ip link add port1 type veth peer name port2 && ip link add lan type bridge"
    tried = _tried(["unshare", "--net", "--uts", "sh", "-c", f"hostname lan && {links}"])
    return None if tried.returncode == 0 else f"no network namespaces here: {tried.stderr.strip()}"


class Machine:
    """One machine, with its own network namespace and host name."""

    def __init__(self, name: str, pid: int, number: int) -> None:
        self.name = name
        self.address = f"{SUBNET}.{number}"
        self._pid = pid

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Run the block on this machine: its sockets and processes are in the machine's namespaces."""
        own = _opened("/proc/thread-self/ns")
        there = _opened(f"/proc/{self._pid}/ns")
        try:
            _set_namespaces(there)
            try:
                yield
            finally:
                _set_namespaces(own)
        finally:
            for descriptor in (*own.values(), *there.values()):
                os.close(descriptor)

    def sh(self, script: str) -> str:
        """Run *script* on this machine as root, and return its output."""
        with self.entered():
            done = _tried(["sh", "-euc", script])
        if done.returncode != 0:
            raise AssertionError(f"{script}\n{done.stdout}{done.stderr}")
        return done.stdout


class Lan:
    """Creates machines that reach each other."""

    def __init__(self, running: ExitStack) -> None:
        self._running = running
        self._count = 0
        self._switch = self._started("switch")
        self._switch.sh("ip link add lan type bridge mcast_snooping 0 && ip link set lan up")

    def machine(self, name: str, *, ipv4: bool = True, is_plugged_in: bool = True) -> Machine:
        """Start a machine.

        :param ipv4: whether it has an IPv4 address besides its link-local IPv6 address.
        :param is_plugged_in: whether to connect it now; :meth:`plug_in` connects it later.
        """
        machine = self._started(name)
        if is_plugged_in:
            self.plug_in(machine, ipv4=ipv4)
        return machine

    def plug_in(self, machine: Machine, *, ipv4: bool = True) -> None:
        """Connect *machine* to the network."""
        # Addresses are unique here, and duplicate address detection takes a second or two.
        machine.sh("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad")
        number = machine.address.rpartition(".")[2]
        self._switch.sh(
            f"ip link add port{number} type veth peer name eth0 netns {machine._pid}"
            f" && ip link set port{number} master lan up"
        )
        address = f"ip address add {machine.address}/24 dev eth0 && " if ipv4 else ""
        machine.sh(f"{address}ip link set eth0 up")

    def set_link(self, machine: Machine, *, up: bool) -> None:
        """Unplug or plug in the cable."""
        number = machine.address.rpartition(".")[2]
        self._switch.sh(f"ip link set port{number} {'up' if up else 'down'}")

    def _started(self, name: str) -> Machine:
        words = ["unshare", *(f"--{kind}" for kind in NAMESPACES), "sh", "-c", HOLD.format(name=name)]
        holder = self._running.enter_context(
            subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        self._running.callback(holder.kill)
        if holder.stdout is None or holder.stdout.readline() != "ready\n":
            raise AssertionError(f"the machine '{name}' did not start")
        self._count += 1
        return Machine(name, holder.pid, self._count)


@contextmanager
def lan() -> Iterator[Lan]:
    """Create a network for the block. Requires that :func:`why_no_lan` returns None."""
    with ExitStack() as running:
        yield Lan(running)


def _opened(folder: str) -> dict[str, int]:
    return {kind: os.open(Path(folder) / kind, os.O_RDONLY | os.O_CLOEXEC) for kind in NAMESPACES}


def _set_namespaces(descriptors: dict[str, int]) -> None:
    # os.setns exists from Python 3.12 on.
    libc = ctypes.CDLL(None, use_errno=True)
    for kind, flag in NAMESPACES.items():
        if libc.setns(descriptors[kind], flag) != 0:
            raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")


def _tried(words: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(words, capture_output=True, text=True, check=False)
