"""``nexus-proxy backends``, ``queue`` and ``decisions`` ask a started proxy, and a shell completes what it has."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from nexus.testing.asking import ask, chat
from nexus.testing.fleets import backend_table, table_of

PROGRAM = "import sys; sys.argv = ['nexus-proxy']; from nexus.cli.main import main; main()"


@pytest.fixture
def completed(tmp_path):
    """Return what bash would offer for the last of the words given."""

    def run(*words, **environ):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
        asked = {
            "_NEXUS_PROXY_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("nexus-proxy", *words)),
            "COMP_CWORD": str(len(words)),
        }
        return subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=tmp_path,
            env={**inherited, "XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path), **asked, **environ},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    return run


def offered(result):
    return [line.partition(",")[2] for line in result.stdout.split()]


def test_the_list_is_what_the_command_shows_without_a_word(start_nexus, simulate, command):
    nexus = start_nexus(table_of(simulate(name="gpu-1")))

    bare, listed = (command(*words, "--url", nexus.url) for words in (("backends",), ("backends", "list")))
    healthy = command("backends", "list", "--status", "healthy", "--json", "--url", nexus.url)

    assert (listed.returncode, listed.stdout) == (0, bare.stdout)
    assert "gpu-1" in listed.stdout
    assert [row["name"] for row in json.loads(healthy.stdout)["backends"]] == ["gpu-1"]


@pytest.mark.parametrize("action", ["approve", "reject"])
def test_a_server_that_did_not_announce_itself_cannot_be_decided_about(start_nexus, command, action):
    nexus = start_nexus("")

    told = command("backends", action, "desk", "--url", nexus.url)

    assert told.returncode == 1
    assert "404 not_found: backend not found: desk; /admin/backends lists them" in told.stderr


def test_a_shell_completes_the_names_that_the_proxy_has(start_nexus, command, completed):
    start_nexus("".join(backend_table(name, f"http://127.0.0.1:{port}") for port, name in ((7, "gpu-1"), (9, "cpu-1"))))
    command("backends", "drain", "cpu-1")

    by_action = {action: offered(completed("backends", action, "''")) for action in ("drain", "undrain")}
    begun = completed("backends", "drain", "g")
    waiting = completed("backends", "approve", "''")

    assert by_action == {"drain": ["gpu-1"], "undrain": ["cpu-1"]}
    assert (offered(begun), begun.stderr) == (["gpu-1"], "")
    assert offered(waiting) == []


def test_without_a_proxy_that_answers_a_shell_offers_nothing_and_says_nothing(completed):
    begun = time.monotonic()
    nothing = completed("backends", "drain", "g")
    usual_s = time.monotonic() - begun
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        waited = completed("backends", "drain", "g", NEXUS_URL=f"http://127.0.0.1:{silent.getsockname()[1]}")
        waited_s = time.monotonic() - begun

    assert [(told.stdout.strip(), told.stderr) for told in (nothing, waited)] == [("", ""), ("", "")]
    assert waited_s < usual_s + 3.0


def test_the_queue_and_the_decisions_are_shown(start_nexus, simulate, command):
    nexus = start_nexus(table_of(simulate(name="gpu-1")))
    good = ask(nexus.url, "/v1/chat/completions", chat())
    ask(nexus.url, "/v1/chat/completions", chat("nope"))
    nexus.wait_for_log("exchange_finished", 2)

    queue = command("queue", "--url", nexus.url)
    listed = command("decisions", "--url", nexus.url)
    rejected = json.loads(command("decisions", "--decision", "reject", "--json", "--url", nexus.url).stdout)
    one = command("decisions", "--id", good.headers["X-Request-Id"], "--url", nexus.url)
    unknown = command("decisions", "--id", "nope", "--url", nexus.url)

    assert queue.stdout.startswith("0 requests wait, at most 10000 may\n")
    assert [line.split()[1] for line in listed.stdout.splitlines()] == ["MODEL", "nope", "llama3"]
    assert [row["model"] for row in rejected["decisions"]] == ["nope"]
    assert "gpu-1" in one.stdout
    assert (unknown.returncode, "404 not_found" in unknown.stderr) == (1, True)


def test_one_decision_and_a_choice_from_the_list_exclude_each_other(command):
    told = command("decisions", "--id", "a", "--model", "llama3")

    assert told.returncode == 2
