"""Commands that talk to servers, which here are simulated."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from nexus.simulator import Settings, Simulator, in_thread

NEXUS = (sys.executable, "-c", "from nexus.cli.main import main; main()")


@pytest.fixture
def servers():
    one = Simulator(Settings(name="gpu-1", kind="vllm", models=("llama3",)))
    two = Simulator(Settings(name="gpu-2", kind="ollama", models=("llama3", "qwen3")))
    with in_thread(one, two) as started:
        yield started


@pytest.fixture
def config(run, servers):
    rows = "".join(f'[[backends]]\nname = "{s.name}"\nurl = "{s.url}"\ntype = "{s.settings.kind}"\n' for s in servers)
    Path("nexus.toml").write_text(rows)


def test_explain_says_who_would_be_asked_and_why(run, config):
    result = run("explain", "--model", "qwen3")

    assert result.exit_code == 0, result.stderr
    assert "who has it: gpu-2" in result.stdout
    assert "1. gpu-2 as qwen3" in result.stdout


def test_explain_shows_what_a_stage_of_a_plugin_says(run, config):
    result = run("explain", "--model", "llama3", "--plugin", str(Path(__file__).with_name("night.py")))

    assert "excludes gpu-1: cloud backends rest at night" in result.stdout
    assert "rejected: " in result.stdout


def test_explain_knows_what_the_request_needs(run, config):
    result = run("explain", "-m", "llama3", "--prompt-tokens", "1000000", "--json")

    explained = json.loads(result.stdout)
    assert explained["model"] == "llama3"
    assert explained["models"][0]["ranking"] == []


def test_explain_of_an_unknown_model_says_so(run, config):
    result = run("explain", "--model", "gone")

    assert result.exit_code == 0
    assert "who has it: nobody" in result.stdout


def test_demo_asks_one_question_and_ends(tmp_path):
    ended = subprocess.run(
        [*NEXUS, "demo", "--ask", "What does a proxy do?"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert re.search(r"\S+ \S+.*\n\nanswered by \S+ as llama3\n", ended.stdout, re.DOTALL)


def test_demo_keeps_running_until_it_is_interrupted(tmp_path):
    with subprocess.Popen(
        [*NEXUS, "demo"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            said = ""
            while "Ctrl-C" not in said:
                line = running.stdout.readline()
                assert line, running.stderr.read()
                said += line
            (url,) = re.findall(r"curl -N (\S+)/v1/chat/completions", said)
            with urllib.request.urlopen(f"{url}/v1/models", timeout=5) as reply:
                models = {row["id"] for row in json.load(reply)["data"]}
        finally:
            running.send_signal(signal.SIGINT)
        code = running.wait(15)

    assert {"llama3", "qwen3"} <= models
    assert code == 0
