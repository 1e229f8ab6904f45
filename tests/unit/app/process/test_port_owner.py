"""The process that listens on a port is named if the system shows it."""

import os
import socket
from pathlib import Path

import pytest

from nexus.app.process.port_owner import UNKNOWN, owner_of

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="no /proc of Linux")


def test_a_port_of_ipv6_is_found_too():
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        assert f"(process {os.getpid()})" in owner_of(server.getsockname()[1])


def test_an_unknown_owner_is_not_guessed(tmp_path):
    assert owner_of(8000, proc=tmp_path) == UNKNOWN


def test_of_processes_that_share_a_socket_the_parent_is_named(tmp_path):
    net = tmp_path / "net"
    net.mkdir()
    (net / "tcp").write_text("head\n 0: 0100007F:1F40 0:0 0A 0:0 0:0 0 0 0 77 1\n")
    for number, parent, name in ((31, 30, "python"), (30, 1, "nexus (proxy)"), (32, 30, "python")):
        process = tmp_path / str(number)
        (process / "fd").mkdir(parents=True)
        (process / "fd" / "5").symlink_to("socket:[77]")
        (process / "comm").write_text(f"{name}\n")
        (process / "stat").write_text(f"{number} ({name}) S {parent} 1 1")

    assert owner_of(8000, proc=tmp_path) == "nexus (proxy) (process 30)"
