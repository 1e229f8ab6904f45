"""Simulated servers as a proxy's configuration names them, in this process or in one of their own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from nexus.simulator import Simulator


def backend_table(name: str, url: str, **keys: str | int) -> str:
    """Return the ``[[backends]]`` table of one server."""
    rows = {"name": name, "url": url, **keys}
    return "\n[[backends]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in rows.items())


def table_of(simulator: Simulator, **keys: str | int) -> str:
    """Return the ``[[backends]]`` table of *simulator*."""
    return backend_table(simulator.name, simulator.url, **keys)


@contextmanager
def simulator_process(*words: str) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """Run ``python -m nexus.simulator`` with *words*; give the process and its URL, and kill it at the end."""
    command = [sys.executable, "-m", "nexus.simulator", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            yield process, line.rsplit(None, 1)[1]
        finally:
            process.kill()
