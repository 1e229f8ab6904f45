"""The commands that look at the proxy that runs, and the one that takes a backend out of its service."""

import json

import pytest

from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.ports import free_port
from tests.support.process import run_nexus

KEYS = '[server]\napi_keys = ["env:CLIENT"]\nadmin_keys = ["env:ADMIN"]\n'


@pytest.fixture
def gpus():
    made = tuple(Simulator(Settings(name=name, kind="vllm", models=("llama3",))) for name in ("gpu-1", "gpu-2"))
    with in_thread(*made):
        yield made


@pytest.fixture
def nexus(gpus, tmp_path):
    with run_nexus(tmp_path, "".join(map(table_of, gpus))) as running:
        yield running


def test_the_backends_are_shown_as_the_proxy_sees_them(nexus, command):
    ended = command("backends", "--url", nexus.url)

    heading, first, second = ended.stdout.splitlines()
    assert heading.split()[:3] == ["NAME", "STATUS", "TYPE"]
    assert [line.split()[:3] for line in (first, second)] == [
        ["gpu-1", "healthy", "vllm"],
        ["gpu-2", "healthy", "vllm"],
    ]


def test_scripts_get_json_and_may_ask_for_one_status(nexus, command):
    healthy = json.loads(command("backends", "--url", nexus.url, "--json", "--status", "healthy").stdout)
    sick = json.loads(command("backends", "--url", nexus.url, "--json", "--status", "unhealthy").stdout)

    assert [row["name"] for row in healthy["backends"]] == ["gpu-1", "gpu-2"]
    assert sick == {"backends": [], "pending": [], "files": []}


def test_a_drained_backend_gets_nothing_until_it_is_put_back(nexus, gpus, command):
    drained = command("backends", "drain", "gpu-1", "--url", nexus.url)
    for _ in range(6):
        ask(nexus.url, "/v1/chat/completions", chat("llama3"))

    assert drained.stdout == "gpu-1 is draining, with 0 requests under way\n"
    assert not gpus[0].received("/v1/chat/completions")
    assert command("backends", "undrain", "gpu-1", "--url", nexus.url).returncode == 0


def test_a_backend_that_there_is_not_cannot_be_drained(nexus, command):
    ended = command("backends", "drain", "gpu-9", "--url", nexus.url)

    assert ended.returncode == 1
    assert "backend not found: gpu-9" in ended.stderr


def test_the_models_are_shown_with_who_has_them(nexus, command):
    heading, row = command("models", "--url", nexus.url).stdout.splitlines()
    told = json.loads(command("models", "--url", nexus.url, "--json", "--backend", "gpu-2").stdout)

    assert (heading.split()[0], row.split()[:3]) == ("MODEL", ["llama3", "gpu-1,", "gpu-2"])
    assert told["models"][0]["backends"] == ["gpu-1", "gpu-2"]


def test_health_is_a_line_and_an_exit_code(nexus, command):
    well = command("health", "--url", nexus.url)
    gone = command("health", "--url", f"http://127.0.0.1:{free_port()}")

    assert (well.returncode, gone.returncode) == (0, 1)
    assert well.stdout.startswith("healthy: nexus-proxy ")
    assert "no proxy answers at" in gone.stderr


def test_a_proxy_that_cannot_serve_is_no_success(tmp_path, command):
    down = '[[backends]]\nname = "gpu-1"\nurl = "http://127.0.0.1:9"\ntype = "vllm"\n'
    with run_nexus(tmp_path, down) as nexus:
        ended = command("health", "--url", nexus.url, "--json")

    assert ended.returncode == 1
    assert json.loads(ended.stdout)["ready"] is False


def test_what_changes_things_asks_for_an_administrator_s_key(gpus, tmp_path, command, monkeypatch):
    monkeypatch.setenv("CLIENT", "client-key")
    monkeypatch.setenv("ADMIN", "admin-key")
    with run_nexus(tmp_path, KEYS + table_of(gpus[0])) as nexus:
        as_client = command("backends", "drain", "gpu-1", "--url", nexus.url, "--api-key", "env:CLIENT")
        as_admin = command("backends", "drain", "gpu-1", "--url", nexus.url, "--api-key", "env:ADMIN")
        # With the configuration at hand, its own key is found there.
        configured = command("backends", "--config", str(nexus.config_file), "--port", str(nexus.port))

    assert (as_client.returncode, as_admin.returncode, configured.returncode) == (77, 0, 0)
    assert "asks for a key" in as_client.stderr
