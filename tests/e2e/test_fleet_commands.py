"""``nexus-proxy backends``, ``queue`` and ``decisions`` ask a started proxy, and a shell completes what it has."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nexus.testing.client import ask, chat
from nexus.testing.fleets import backend_table, table_of
from nexus.testing.waiting import until

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

    # The age is another one a second later.
    shown, bare_shown = (re.sub(r"  \d+ s  ", "  N s  ", told.stdout) for told in (listed, bare))
    assert (listed.returncode, shown) == (0, bare_shown)
    assert "gpu-1" in listed.stdout
    assert [row["name"] for row in json.loads(healthy.stdout)["backends"]] == ["gpu-1"]


@pytest.mark.parametrize("action", ["approve", "reject"])
def test_a_server_that_did_not_announce_itself_cannot_be_decided_about(start_nexus, command, action):
    nexus = start_nexus("")

    told = command("backends", action, "desk", "--url", nexus.url)

    assert told.returncode == 1
    assert "404 not_found: backend not found: desk; /admin/backends lists them" in told.stderr


@pytest.mark.parametrize("action", ["approve", "reject"])
def test_a_backend_of_the_file_needs_no_decision(start_nexus, command, action):
    nexus = start_nexus(backend_table("gpu-1", "http://127.0.0.1:9"))

    told = command("backends", action, "gpu-1", "--url", nexus.url)

    assert told.returncode == 1
    assert "400 bad_request: the backend 'gpu-1' did not announce itself, and needs no approval" in told.stderr


def test_a_shell_completes_the_names_that_the_proxy_has(start_nexus, command, completed):
    start_nexus("".join(backend_table(name, f"http://127.0.0.1:{port}") for port, name in ((7, "gpu-1"), (9, "cpu-1"))))
    command("backends", "drain", "cpu-1")

    by_action = {action: offered(completed("backends", action, "''")) for action in ("drain", "undrain")}
    begun = completed("backends", "drain", "g")
    waiting = completed("backends", "approve", "''")

    assert by_action == {"drain": ["gpu-1"], "undrain": ["cpu-1"]}
    assert (offered(begun), begun.stderr) == (["gpu-1"], "")
    assert offered(waiting) == []


class Odd(BaseHTTPRequestHandler):
    """A proxy of backends whose names mean something to a shell."""

    names = ("gpu-1.test:8000", "gpu-1.test:9000", "my mac", "it's $HOME", "*")

    def do_GET(self):
        body = json.dumps({"backends": [{"name": name, "status": "healthy"} for name in self.names]}).encode()
        self.send_response(200)
        self.send_header("X-Nexus-Version", "1.0.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Stay silent."""


@pytest.fixture(scope="module")
def odd_url():
    with ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


@pytest.fixture
def in_bash(tmp_path):
    """Return the words of a line that was typed into a bash, with a tabulator at its end."""

    def read(line, **environ):
        program = tmp_path / "nexus-proxy"
        program.write_text(f"#!{sys.executable}\nfrom nexus.cli.main import main\nmain()\n")
        program.chmod(0o755)
        path = f"{tmp_path}:{os.environ['PATH']}"
        own, theirs = pty.openpty()
        with subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            cwd=tmp_path,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={"PATH": path, "TERM": "dumb", "HOME": str(tmp_path), "PS1": "", "INPUTRC": "/dev/null", **environ},
        ) as shell:
            os.close(theirs)
            said = b""
            try:
                # The tabulator is answered before the rest of the line is read.
                for text, awaited in (
                    ('eval "$(nexus-proxy completions bash)"; echo rea""dy\n', b"ready"),
                    (f"{line}\t\x01printf '<%s>' BEGIN \x05 END\n", b"<END>"),
                ):
                    os.write(own, text.encode())
                    while awaited not in said:
                        assert select.select([own], [], [], 5)[0], said
                        said += os.read(own, 4096)
            finally:
                shell.kill()
        os.close(own)
        return re.findall("<([^<>]*)>", said.decode().rpartition("<BEGIN>")[2])[:-1]

    return read


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("gpu-1.test:8", "gpu-1.test:8000"),
        ("g", "gpu-1.test:"),
        ("my", "my mac"),
        ('"my', "my mac"),
        ("my\\ m", "my mac"),
        ("it", "it's $HOME"),
        ("\\*", "*"),
    ],
)
def test_bash_completes_names_as_one_word(odd_url, in_bash, typed, completed):
    words = in_bash(f"nexus-proxy backends drain {typed}", NEXUS_URL=odd_url)

    assert words == ["nexus-proxy", "backends", "drain", completed]


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


def test_the_queue_and_the_decisions_are_shown(start_nexus, simulate, command, new_command):
    nexus = start_nexus(table_of(simulate(name="gpu-1")))
    good = ask(nexus.url, "/v1/chat/completions", chat())
    ask(nexus.url, "/v1/chat/completions", chat("nope"))
    nexus.wait_for_log("exchange_finished", 2)

    queue = new_command("queue", "--url", nexus.url)
    listed = new_command("decisions", "--url", nexus.url)
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


@pytest.fixture
def at_terminal(tmp_path):
    """Run a command at a terminal of 60 columns, answer its question, and return its exit code and what it shows."""

    def run(*words, answer="", **environ):
        own, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("NEXUS_", "COLUMNS"))}
        command = [sys.executable, "-m", "nexus", *words]
        with subprocess.Popen(
            command, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, env={**inherited, **environ}
        ) as asked:
            os.close(theirs)
            os.write(own, answer.encode())
            shown = b""
            # Linux says that the other side is closed by an error.
            with contextlib.suppress(OSError):
                while piece := os.read(own, 4096):
                    shown += piece
        os.close(own)
        return asked.returncode, shown.decode().replace("\r\n", "\n")

    return run


def healthy(nexus, count):
    return [row["status"] for row in nexus.get_json("/admin/backends")["backends"]].count("healthy") == count


def test_draining_the_last_with_a_model_is_said_and_a_script_is_not_asked(start_nexus, simulate, command):
    one, two = (simulate(name=name, models=models) for name, models in (("one", ("x", "y")), ("two", ("y",))))
    nexus = start_nexus(table_of(one) + table_of(two))
    until(lambda: healthy(nexus, 2))

    spare = command("backends", "drain", "two", "--url", nexus.url)
    last = command("backends", "drain", "one", "--json", "--url", nexus.url)

    assert (spare.returncode, "last healthy" in spare.stderr) == (0, False)
    assert (last.returncode, "one is the last healthy backend with x, y\n" in last.stderr) == (0, True)
    assert json.loads(last.stdout)["last_with"] == ["x", "y"]


def test_at_a_terminal_the_last_with_a_model_is_drained_only_after_a_yes(start_nexus, simulate, at_terminal):
    nexus = start_nexus(table_of(simulate(name="gpu-1", models=("x",))))
    until(lambda: healthy(nexus, 1))
    words = ("backends", "drain", "gpu-1", "--url", nexus.url)

    refused, said = at_terminal(*words, answer="n\n")
    stays = healthy(nexus, 1)
    agreed, _ = at_terminal(*words, answer="y\n")
    at_terminal("backends", "undrain", "gpu-1", "--url", nexus.url)
    until(lambda: healthy(nexus, 1))
    unasked, silent = at_terminal(*words, "--yes")

    assert (refused, stays, agreed, unasked) == (1, True, 0, 0)
    assert "gpu-1 is the last healthy backend with x\ndrain gpu-1? [y/N]: " in said
    assert "[y/N]" not in silent


def test_the_fleet_fits_a_terminal_of_sixty_columns(start_nexus, simulate, at_terminal):
    long = "a-backend-with-quite-a-long-name.example.com"
    nexus = start_nexus(table_of(simulate(name="gpu-1")) + backend_table(long, "http://127.0.0.1:9"))
    ask(nexus.url, "/v1/chat/completions", chat())
    until(lambda: healthy(nexus, 1))

    shown = {
        words: at_terminal(*words, "--url", nexus.url)[1].splitlines()[1:]
        for words in (("backends", "list"), ("models",), ("decisions",), ("queue",), ("health",))
    }
    tables = [line for words in (("backends", "list"), ("models",), ("decisions",)) for line in shown[words]]

    assert [line for line in tables if len(line) > 60] == []
    assert shown["backends", "list"][0].split()[:2] == ["NAME", "STATUS"]
    assert "SOURCE" in shown["backends", "list"][0]
