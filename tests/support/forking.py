"""Starts ``nexus-proxy`` as a fork of a process that has imported it, which saves most of the time of a start."""

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, NamedTuple

MAX_ORDER_BYTES: Final = 150_000
"""The kernel takes no longer message."""
FORK_S: Final = 30.0
PATH: Final = "PYTHONPATH"
RUN_AT_THE_START: Final = ("sitecustomize", "usercustomize")


class Order(NamedTuple):
    """A process to start."""

    words: Sequence[str]
    folder: str
    environ: Mapping[str, str]


class Fork:
    """A process, with the part of the interface of :class:`subprocess.Popen` that tests use."""

    def __init__(self, words: Sequence[str], answers: socket.socket) -> None:
        self.args = words
        self.returncode: int | None = None
        self._answers = answers
        answers.settimeout(FORK_S)
        self.pid = int(answers.recv(20))

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return its exit code, negative for a signal.

        :raises subprocess.TimeoutExpired: it still runs after *timeout* seconds.
        """
        if self.returncode is None:
            self._answers.settimeout(timeout)
            try:
                self.returncode = int(self._answers.recv(20))
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None
            self._answers.close()
        return self.returncode

    def poll(self) -> int | None:
        """Return its exit code; None: it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0.0)
        return None

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Forks:
    """A process that has imported Nexus, and forks for each start of it."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            words = [sys.executable, __file__, str(theirs.fileno())]
            self._process = subprocess.Popen(words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

    def start(self, words: Sequence[str], folder: Path, environ: Mapping[str, str], output: int, errors: int) -> Fork:
        """Start ``nexus-proxy`` with *words* in *folder*.

        :param environ: its whole environment.
        :param output: the file descriptor of its standard output; that of an error is *errors*.
        """
        order = json.dumps(Order(words, str(folder), dict(environ))._asdict()).encode()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._orders, [order], [theirs.fileno(), output, errors])
        return Fork(words, ours)

    def run(
        self, words: Sequence[str], folder: Path, environ: Mapping[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Start it, and wait for its end.

        :raises subprocess.TimeoutExpired: it has not ended in time, and was killed.
        """
        with TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
            fork = self.start(words, folder, environ, output.fileno(), errors.fileno())
            try:
                status = fork.wait(timeout_s)
            except subprocess.TimeoutExpired:
                fork.kill()
                fork.wait()
                raise
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(words, status, output.read(), errors.read())

    def close(self) -> None:
        """End the process; its forks go on."""
        self._orders.close()
        self._process.wait()


@cache
def forks() -> Forks:
    """Return the process that forks for all tests of this one."""
    made = Forks()
    atexit.register(made.close)
    return made


def _of_python(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith("PYTHON")}


def _network() -> str:
    return str(Path("/proc/thread-self/ns/net").readlink()) if sys.platform == "linux" else ""


_OWN_SETTINGS: Final = _of_python(os.environ)
_OWN_NETWORK: Final = _network()


def may_fork(environ: Mapping[str, str]) -> bool:
    """Return whether a fork is like a new process with this environment.

    It is not if Python reads other settings from it at a start, nor on another machine of :mod:`tests.support.lan`.
    """
    settings = _of_python(environ)
    if PATH not in _OWN_SETTINGS and not any(map(_matters_at_the_start, settings.get(PATH, "").split(os.pathsep))):
        settings.pop(PATH, None)
    return sys.platform == "linux" and settings == _OWN_SETTINGS and _network() == _OWN_NETWORK


def _matters_at_the_start(folder: str) -> bool:
    """Return whether Python would run a module of *folder* at its start, or has another one of the same name."""
    if not folder:
        return False
    names = [path.stem for path in Path(folder).iterdir() if path.suffix == ".py" or path.is_dir()]
    return any(name in RUN_AT_THE_START or (name.isidentifier() and find_spec(name) is not None) for name in names)


def serve(orders: socket.socket) -> None:
    """Fork for one order after the other, and return in the fork that is to become ``nexus-proxy``.

    It ends when the orders end.
    """
    while True:
        text, descriptors, _, _ = socket.recv_fds(orders, MAX_ORDER_BYTES, 3)
        if not text:
            sys.exit()
        answers, *streams = descriptors
        if os.fork() == 0:
            orders.close()
            _fork_again(answers, streams)
            _become(Order(**json.loads(text)))
            return
        for number in descriptors:
            os.close(number)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass


def _fork_again(answers: int, streams: Sequence[int]) -> None:
    """Return in a fork with the standard *streams*; this process says how that one ends."""
    pid = os.fork()
    if pid:
        for number in streams:
            os.close(number)
        os.write(answers, b"%d" % pid)
        _, status = os.waitpid(pid, 0)
        with suppress(BrokenPipeError):  # the test has ended
            os.write(answers, b"%d" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.close(answers)
    for number, stream in zip(streams, (1, 2), strict=True):
        os.dup2(number, stream)
    for number in streams:
        os.close(number)


def _become(order: Order) -> None:
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environ)
    time.tzset()
    # `python -m` looks for modules there first.
    added = order.environ.get(PATH, "") if PATH not in _OWN_SETTINGS else ""
    sys.path[:0] = [order.folder, *filter(None, added.split(os.pathsep))]
    sys.argv[1:] = order.words


def preload() -> None:
    """Import what the commands and starts import, the installed plugins among it."""
    commands = import_module("nexus.cli.main").COMMANDS
    for name in (*commands.values(), "nexus.app.serving"):
        import_module(name)
    for plugin in entry_points(group="nexus"):
        plugin.load()
    if threading.active_count() > 1:
        raise AssertionError("a thread would be missing in the forks")
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    # The folder of this file has modules with the names of others; the current one has a nexus that is not installed.
    del sys.path[0]
    preload()
    serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("nexus", run_name="__main__", alter_sys=True)
