"""The simulator runs in a process of its own, and as a small fleet."""

import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from nexus.simulator import demo_fleet


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


async def test_the_demo_fleet_is_of_three_kinds_with_models_in_common():
    fleet = demo_fleet()
    models = [{model.name for model in simulator.settings.catalogue} for simulator in fleet]

    for simulator in fleet:
        await simulator.start()
    ports = {simulator.port for simulator in fleet}
    for simulator in fleet:
        await simulator.stop()

    assert {simulator.settings.kind for simulator in fleet} == {"ollama", "vllm", "llamacpp"}
    assert models[0] & models[1]
    assert models[1] & models[2]
    assert len(ports) == 3
