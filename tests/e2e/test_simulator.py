"""``python -m nexus.simulator`` runs one simulated server."""

import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest


def test_a_simulator_runs_in_a_process_of_its_own():
    command = [sys.executable, "-m", "nexus.simulator", "--name", "gpu-1", "--kind", "vllm", "--model", "llama3"]
    fault = ["--fault", '{"kind": "status", "status": 418, "on": "all"}']
    with subprocess.Popen([*command, *fault], stdout=subprocess.PIPE, text=True) as process:
        url = re.search(r"http://\S+", process.stdout.readline())[0]

        with pytest.raises(urllib.error.HTTPError, match="418"):
            urllib.request.urlopen(f"{url}/v1/models", timeout=5)
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=5)

    assert code == 0


def test_a_fault_that_cannot_be_is_refused_at_the_start():
    command = [sys.executable, "-m", "nexus.simulator", "--fault", "{}"]

    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)

    assert ended.returncode == 2
    assert "--fault" in ended.stderr
