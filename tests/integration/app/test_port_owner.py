"""Another process that listens on a port is named."""

import subprocess
import sys
from pathlib import Path

import pytest

from nexus.app.process.port_owner import owner_of

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="no /proc of Linux")

LISTENER = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    sys.stdin.read()
"""


def test_a_script_has_its_own_name_and_not_that_of_its_interpreter(tmp_path):
    script = tmp_path / "llama-server"
    script.write_text(LISTENER)
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        port = int(process.stdout.readline())

        owner = owner_of(port)

        process.stdin.close()
    assert owner == f"llama-server (process {process.pid})"
