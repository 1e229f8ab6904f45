"""A standard stream that is closed or full: the proxy runs all the same, and a command says that its output is lost."""

import os
import signal
import subprocess
import sys

import pytest

from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.ports import free_port
from nexus.testing.waiting import until


@pytest.fixture
def shell(tmp_path):
    """Begin ``nexus-proxy`` with words and redirections as a shell takes them."""

    def begin(words):
        return subprocess.Popen(
            ["sh", "-c", f'exec "{sys.executable}" -m nexus {words}'],
            cwd=tmp_path,
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return begin


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_proxy_with_a_closed_stream_serves_and_stops(simulate, shell, tmp_path, closed):
    (tmp_path / "nexus.toml").write_text(f"[discovery]\nenabled = false\n{table_of(simulate())}")
    port = free_port()
    process = shell(f"--port {port} {closed}")

    def answered():
        try:
            return ask(f"http://127.0.0.1:{port}", "/v1/chat/completions", chat()).status
        except OSError:
            return None

    try:
        status = until(answered, within_s=10)
        process.send_signal(signal.SIGTERM)
        ended = process.wait(10)
    finally:
        process.kill()
        process.communicate()

    assert (status, ended) == (200, 0)


@pytest.mark.parametrize("words", ["--version", "-h", "config init -o -", "plugins --json"])
@pytest.mark.parametrize("output", [">/dev/full", ">&-"])
@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is there")
@pytest.mark.parametrize("buffer", ["", "PYTHONUNBUFFERED"])
def test_output_that_cannot_be_written_is_said_in_a_line(shell, words, output, buffer, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    if buffer:
        monkeypatch.setenv(buffer, "1")

    process = shell(f"{words} {output}")

    _, said = process.communicate(timeout=30)

    *_, last = said.splitlines()
    assert process.returncode == 74
    assert last.startswith("nexus-proxy: standard output cannot be written: ")
    assert "Traceback" not in said


TALKER = """
import click

from nexus.api import hookimpl


@hookimpl
def nexus_commands(config):
    return [click.Command("talk", callback=lambda: click.echo("hello"))]
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is there")
def test_the_command_of_a_plugin_is_not_to_blame_for_a_full_disk(shell, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    (tmp_path / "talker.py").write_text(f'"""Talks."""\n{TALKER}')

    process = shell("--plugin talker.py talk >/dev/full")

    _, said = process.communicate(timeout=30)
    assert process.returncode == 74
    assert said.splitlines()[-1] == "nexus-proxy: standard output cannot be written: No space left on device"
