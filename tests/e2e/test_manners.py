"""How commands print: documents of a documented shape, tables that fit, colours where they are wanted, quiet ends."""

import json
import os
import pty
import re
import socket
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from nexus.testing.fleets import backend_table

GPU = backend_table("gpu-1", "http://127.0.0.1:9/a/base/path/as/long/as/some/are/in/the/wild", type="vllm")
NIGHT = str(Path(__file__).parents[1] / "unit" / "cli" / "night.py")
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "command-line.rst"


def documented():
    """The example of each command, by the words that print one like it."""
    parts = re.split(r"^(``.*--json``)\n", REFERENCE.read_text(), flags=re.MULTILINE)[1:]
    for names, text in zip(parts[::2], parts[1::2], strict=True):
        if example := re.search(r"code-block:: json\n\n((?:      .*\n)+)", text):
            yield from ((name.strip("`"), json.loads(example[1])) for name in names.split(", "))


EXAMPLES = dict(documented())
OFFLINE = {
    "check --json": (),
    "pipeline --json": (),
    "plugins --json": ("--plugin", NIGHT),
    "--version --json": (),
}


def same_shape(document, example):
    """Whether both have the same members, as far as their lists have items."""
    if isinstance(document, dict) and isinstance(example, dict):
        return document.keys() == example.keys() and all(same_shape(document[name], example[name]) for name in example)
    if isinstance(document, list) and isinstance(example, list) and document and example:
        return same_shape(document[0], example[0])
    return True


@pytest.mark.parametrize("words", OFFLINE)
def test_json_has_the_documented_shape(command, tmp_path, words):
    (tmp_path / "nexus.toml").write_text(GPU)

    ended = command(*words.split(), *OFFLINE[words])

    assert ended.returncode in {0, 1}, ended.stderr
    assert same_shape(json.loads(ended.stdout), EXAMPLES[words]), ended.stdout


def test_json_of_the_proxy_that_runs_has_the_documented_shape(start_nexus, command):
    start_nexus(GPU + "[backends.models.llama3]\n")
    words = EXAMPLES.keys() - OFFLINE.keys() - {"plugins check --json"}

    told = {each: json.loads(command(*each.split(), *(("gpu-1",) if "drain" in each else ())).stdout) for each in words}

    assert [each for each in words if not same_shape(told[each], EXAMPLES[each])] == [], told
    assert words == {"backends drain --json", "backends undrain --json", "models --json", "health --json"}


def test_a_check_that_fails_says_so_in_json_as_well(command, tmp_path):
    (tmp_path / "nexus.toml").write_text("[servre]\n")

    ended = command("--json", "check")

    told = json.loads(ended.stdout)
    assert (ended.returncode, told.keys(), told["ok"]) == (78, {"ok", "error"}, False)
    assert ended.stderr == f"nexus-proxy: {told['error']}\n"


def test_an_example_configuration_can_be_printed(command, tmp_path):
    ended = command("config", "init", "-o", "-")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "[server]" in ended.stdout
    assert [*tmp_path.glob("*.toml")] == []


@pytest.mark.parametrize("words", ["--version", "config init -o -", "plugins", "pipeline --json", "-h"])
def test_a_reader_that_has_enough_ends_a_command_quietly(tmp_path, words):
    reader, writer = os.pipe()
    os.close(reader)

    ended = subprocess.run(
        [sys.executable, "-m", "nexus", *words.split()],
        cwd=tmp_path,
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=40,
        check=False,
    )
    os.close(writer)

    assert (ended.returncode, ended.stderr) == (141, b"")


def on_a_terminal(folder, *words, columns=60, **environ):
    """Return what ``nexus-proxy`` prints on a terminal, both of its streams."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, columns))
    inherited = {name: os.environ[name] for name in os.environ.keys() - {"COLUMNS", "NO_COLOR", "TERM"}}
    running = subprocess.Popen(
        [sys.executable, "-m", "nexus", *words],
        cwd=folder,
        env=inherited | {"TERM": "xterm", "XDG_RUNTIME_DIR": str(folder), **environ},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    told = b""
    while True:
        try:
            some = os.read(ours, 4096)
        except OSError:  # how Linux tells of the end of a terminal
            some = b""
        if not some:
            break
        told += some
    os.close(ours)
    running.wait(20)
    return told.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [40, 80])
def test_a_table_fits_the_terminal_and_is_whole_in_a_pipe(start_nexus, command, tmp_path, columns):
    nexus = start_nexus(GPU)
    nexus.wait_for_log("backend_status_changed", within_s=10)

    shown = on_a_terminal(tmp_path, "backends", "--url", nexus.url, columns=columns)
    piped = command("backends", "--url", nexus.url, COLUMNS=str(columns)).stdout

    introduction, heading, row = shown.splitlines()
    assert introduction.startswith("nexus-proxy ")
    assert heading.startswith("NAME ")
    assert max(len(heading), len(row)) <= columns
    assert "…" in row
    assert "/a/base/path/as/long/as/some/are/in/the/wild" in piped
    assert "…" not in piped


@pytest.mark.parametrize(
    ("environ", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_can_be_switched_off(tmp_path, environ, is_coloured):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ("--port", str(taken.getsockname()[1]), "--no-discovery", "--log-format", "pretty")
        told = on_a_terminal(tmp_path, *words, **environ)

    assert " starting " in told
    assert ("\x1b[" in told) is is_coloured
