"""``nexus-proxy demo`` runs a proxy in front of simulated servers."""

import json
import re
import signal
import subprocess
import sys
import urllib.request


def test_demo_asks_one_question_and_ends(command):
    ended = command("demo", "--ask", "What does a proxy do?")

    assert ended.returncode == 0, ended.stderr
    assert re.search(r"\S+ \S+.*\n\nanswered by \S+ as llama3\n", ended.stdout, re.DOTALL)


def test_demo_keeps_running_until_it_is_interrupted(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "nexus", "demo"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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
