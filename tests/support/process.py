"""Runs ``nexus-proxy`` and simulators as processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

from nexus.testing.ports import free_port
from tests.support.forking import Fork, forks, may_fork

START_S: Final = 20.0
STOP_S: Final = 15.0


class NexusProcess:
    """A running proxy."""

    def __init__(self, process: "subprocess.Popen[bytes] | Fork", port: int, log_file: Path, config_file: Path) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.config_file = config_file
        self._log_file = log_file

    def log_text(self) -> str:
        """Return its output."""
        return self._log_file.read_text(errors="replace")

    def log_lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return its log lines, optionally those of one event."""
        # The last line may be incomplete.
        whole = self.log_text().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if event is None or line.get("event") == event]

    def wait_for_log(self, event: str, count: int = 1, within_s: float = 5.0) -> list[dict[str, Any]]:
        """Wait until *event* was logged *count* times, and return its lines."""
        deadline = time.monotonic() + within_s
        while len(lines := self.log_lines(event)) < count:
            if time.monotonic() > deadline:
                raise AssertionError(f"{event} was logged {len(lines)} times:\n{self.log_text()[-4000:]}")
            time.sleep(0.02)
        return lines

    def get_json(self, path: str) -> Any:
        """Return the JSON of one of its pages."""
        with urlopen(self.url + path, timeout=5) as answer:
            return json.loads(answer.read())

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def stop(self, within_s: float = STOP_S) -> int:
        """Stop it with SIGTERM, and return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextmanager
def run_nexus(
    folder: Path,
    config: str,
    *,
    arguments: tuple[str, ...] = (),
    environ: Mapping[str, str] | None = None,
    port: int | None = None,
    max_files: int | None = None,
    start_s: float = START_S,
    own_interpreter: bool = False,
) -> Iterator[NexusProcess]:
    """Write *config* into *folder*, and run ``nexus-proxy`` with it.

    It is a fork of a process that has imported it, where a fork is like a new process.

    :param config: TOML without server.port.
    :param port: the port to listen on; None: a free one.
    :param max_files: the limit of file descriptors; None: that of the caller.
    :param start_s: how long it may take until it listens.
    :param own_interpreter: whether to start an interpreter in any case, for a test that measures its process.
    """
    config_file = folder / "nexus.toml"
    config_file.write_text(config)
    log_file = folder / "nexus.log"
    port = port or free_port()
    words = ["--config", str(config_file), "--port", str(port), *arguments]
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "NEXUS_LOG_FORMAT": "json", **(environ or {})}
    process: subprocess.Popen[bytes] | Fork
    with log_file.open("wb") as log:
        if max_files is None and not own_interpreter and may_fork(environ):
            process = forks().start(words, folder, environ, log.fileno(), log.fileno())
        else:
            command = [sys.executable, "-m", "nexus", *words]
            if max_files is not None:
                command = ["sh", "-c", f'ulimit -n {max_files} && exec "$@"', "sh", *command]
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environ, cwd=folder)
    running = NexusProcess(process, port, log_file, config_file)
    try:
        _wait_until_it_listens(running, start_s)
        yield running
    finally:
        running.stop()


def _wait_until_it_listens(running: NexusProcess, start_s: float) -> None:
    deadline = time.monotonic() + start_s
    while time.monotonic() < deadline:
        if running.process.poll() is not None:
            raise AssertionError(f"nexus-proxy ended with {running.process.returncode}:\n{running.log_text()}")
        try:
            with urlopen(running.url + "/health", timeout=1):
                return
        except URLError as exc:
            if getattr(exc, "code", None) is not None:
                return
            time.sleep(0.05)
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nexus-proxy did not start to listen:\n{running.log_text()}")


@contextmanager
def simulator_process(*words: str) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """Run ``python -m nexus.simulator`` with *words*; yield the process and its URL, and kill it at the end."""
    command = [sys.executable, "-m", "nexus.simulator", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            yield process, line.rsplit(None, 1)[1]
        finally:
            process.kill()
