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
