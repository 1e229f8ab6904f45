"""Each command of ``nexus-proxy`` as a process, new where it does its work, and the code that it ends with."""

import json
import re
import signal
import socket
import subprocess
import sys

import pytest

from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.client import ask, chat
from nexus.testing.fleets import backend_table, table_of
from nexus.testing.ports import free_port
from nexus.testing.waiting import until

GPU = backend_table("gpu-1", "http://127.0.0.1:9")


@pytest.fixture
def written(tmp_path):
    """Write the configuration that ``command`` finds."""
    return (tmp_path / "nexus.toml").write_text


def test_the_version_is_told_with_the_plugins(new_command):
    ended = new_command("--version")

    assert ended.returncode == 0
    assert re.match(r"nexus-proxy \d+\.\d+.* \(python 3\.\d+\.\d+\)\nplugins:", ended.stdout)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--config", "gone.toml"), 78, "nexus-proxy: gone.toml: no such file; `nexus-proxy config init` writes one\n"),
        (("--set", "routing.weights.load=1"), 78, "must sum to 100"),
        (("-H", "0.0.0.0"), 78, "--insecure"),
        (("--plugin", "gone.py"), 1, "gone.py"),
        (("-p", "99999"), 2, "99999"),
        (("--version",), 0, ""),
    ],
)
def test_it_ends_with_the_right_code_and_without_a_traceback(command, words, code, text):
    ended = command(*words)

    assert ended.returncode == code
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr


def test_check_says_that_all_is_well(new_command, written):
    written(GPU)

    ended = new_command("check")

    assert (ended.returncode, ended.stdout.splitlines()[0]) == (0, "nexus.toml: ok")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("[server]\nprot = 1", ("nexus.toml", "prot", "did you mean 'port'?")),
        ("[server]\nport = 'many'", ("nexus.toml", "port", "expected `int`, got `str`")),
        ("[health_check]\ninterval_seconds = 0", ("nexus.toml", "interval_seconds")),
        ("[routing.weights]\npriority = 60", ("nexus.toml", "weights", "100")),
        ("[routing.aliases]\na = 'b'\nb = 'a'", ("nexus.toml", "aliases", "a")),
        (GPU + GPU, ("nexus.toml", "two backends are named 'gpu-1'")),
        (backend_table("gpu-1", "ftp://gpu"), ("nexus.toml", "url", "http")),
        (GPU + 'type = "vlm"', ("nexus.toml", "did you mean 'vllm'?")),
        (GPU + 'api_key = "sk-plain-sesame"', ("nexus.toml", "api_key", "env:")),
        ("[plugins.nihgt]", ("nexus.toml", "[plugins.nihgt] belongs to no installed plugin")),
        ("not toml at all", ("nexus.toml",)),
    ],
)
def test_a_wrong_configuration_does_not_start(command, written, config, told):
    written(config)

    ended = command()

    assert ended.returncode == 78
    assert all(text in ended.stderr for text in told), ended.stderr
    assert "Traceback" not in ended.stderr
    assert "sesame" not in ended.stdout + ended.stderr


def test_a_file_that_was_named_must_exist(new_command):
    ended = new_command("--config", "gone.toml")

    assert ended.returncode == 78
    assert "gone.toml" in ended.stderr


@pytest.mark.parametrize("words", [("no-such-command",), ("--no-such-option",), ("serve", "--port", "0")])
def test_a_wrong_word_is_a_wrong_usage(command, words):
    assert command(*words).returncode == 2


def test_a_port_in_use_is_a_failed_start(new_command):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        ended = new_command("--port", str(port), "--no-discovery")

    assert ended.returncode == 1
    assert str(port) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_stands_nearer_wins(command, written):
    written("[server]\nport = 81\nhost = '127.0.0.2'\n[queue]\nmax_size = 3")
    environ = {"NEXUS_PORT": "82", "NEXUS_QUEUE__MAX_SIZE": "many"}

    by_environment = command("check", NEXUS_PORT="82")
    by_option = command("check", "--port", "83", NEXUS_PORT="82", NEXUS_SERVER__HOST="127.0.0.3")
    wrong = command("check", **environ)

    assert "listens on 127.0.0.2 port 82" in by_environment.stdout
    assert "listens on 127.0.0.3 port 83" in by_option.stdout
    assert wrong.returncode == 78
    assert "NEXUS_QUEUE__MAX_SIZE" in wrong.stderr


def test_config_init_writes_what_check_accepts(new_command):
    made, checked = new_command("config", "init"), new_command("check")
    again = new_command("config", "init")

    assert (made.returncode, checked.returncode, again.returncode) == (0, 0, 1)
    assert "--force" in again.stderr


def test_the_pipeline_is_shown_in_its_order(new_command):
    rows = [line.split() for line in new_command("pipeline").stdout.splitlines()]

    assert [row[:2] for row in (rows[0], rows[-1])] == [["0", "analyze"], ["1000", "schedule"]]


def test_plugins_are_listed(new_command):
    ended, as_json = new_command("plugins"), new_command("plugins", "--json")

    names = [plugin["name"] for plugin in json.loads(as_json.stdout)["plugins"]]
    told = [line.partition("  ")[0] for line in ended.stdout.splitlines() if not line.startswith(" ")]
    assert (ended.returncode, as_json.returncode) == (0, 0)
    assert told == (names or ["no plugin is installed"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_name_the_program(new_command, shell):
    ended = new_command("completions", shell)

    assert ended.returncode == 0
    assert "nexus-proxy" in ended.stdout


def test_explain_says_who_would_answer_and_why_not_the_others(new_command, written):
    one = Simulator(Settings(name="gpu-1", kind="vllm", models=("llama3", "qwen3")))
    two = Simulator(Settings(name="laptop", kind="ollama", models=("llama3",)))
    with in_thread(one, two):
        written(table_of(one) + table_of(two))
        told = new_command("explain", "--model", "llama3", "--prompt-tokens", "9000")
        as_json = new_command("explain", "--model", "qwen3", "--json")

    assert told.returncode == as_json.returncode == 0, told.stderr
    assert "exceed the context of 8192" in told.stdout
    assert json.loads(as_json.stdout)["request"]["model"] == "qwen3"


def test_demo_answers_one_question(new_command):
    ended = new_command("demo", "--ask", "What does a proxy do?", "--port", str(free_port()))

    assert ended.returncode == 0, ended.stderr
    assert re.search(r"\n\nanswered by \S+ as \S+\n\Z", ended.stdout)


def test_bare_nexus_proxy_finds_a_server_and_proxies_it(tmp_path):
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 30000)) == 0:
            pytest.skip("somebody listens on 30000 here")
    served = Simulator(Settings(name="found", kind="sglang", port=30000, models=("findling",)))
    log = tmp_path / "log"
    with in_thread(served), log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "nexus"], cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            (port,) = until(lambda: re.findall(r'"event":"started".*"port":(\d+)', log.read_text()), within_s=20)
            url = f"http://127.0.0.1:{port}"
            reply = until(lambda: _answered(url), within_s=15)
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(15)

    assert reply.json()["choices"][0]["message"]["content"].startswith("found:")
    assert reply.headers["X-Nexus-Backend"] == "sglang"
    assert code == 0


def _answered(url):
    reply = ask(url, "/v1/chat/completions", chat("findling"))
    return reply if reply.status == 200 else None
