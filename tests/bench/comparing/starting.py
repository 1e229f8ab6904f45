"""Starts a proxy before its upstreams, and waits until it has answered its first request."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import msgspec

from comparing.asking import ask
from comparing.cores import Cores
from comparing.programs import Program, running
from comparing.proxies import Proxy, Site
from nexus.testing.ports import free_port

START_S: Final = 60.0
PAUSE_S: Final = 0.002


class NotStartedError(Exception):
    """A program did not answer, and why, as far as its log says."""


class Target(Protocol):
    """What loads are put on."""

    @property
    def name(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def headers(self) -> str:
        """Header lines that each request needs, each with its CRLF."""
        ...

    def cpu_s(self) -> float | None:
        """Return the processor time that it has used; None when that does not count."""
        ...


class Started(msgspec.Struct, frozen=True):
    """A proxy that answers."""

    name: str
    program: Program
    port: int
    headers: str
    start_up_ms: float
    """From its start to its first answer, whole and with status 200."""

    def cpu_s(self) -> float | None:
        return self.program.cpu_s()


class Upstream(msgspec.Struct, frozen=True):
    """The upstream itself: what the proxies add to."""

    port: int
    name: str = "no proxy"
    headers: str = ""

    def cpu_s(self) -> float | None:
        return None


@contextmanager
def started(proxy: Proxy, upstreams: tuple[int, ...], cores: Cores) -> Iterator[Started]:
    """Run *proxy* in a folder of its own.

    :raises NotStartedError: it does not answer within a minute.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        site = Site(port=free_port(), upstreams=upstreams, folder=Path(folder), spare_port=free_port())
        command, headers = proxy.command(site), proxy.headers(site)
        began = time.perf_counter()
        with running(command, cores=cores.proxy, log=site.folder / "log", environ=proxy.environ) as program:
            wait_for_answer(program, site.port, headers)
            yield Started(proxy.name, program, site.port, headers, (time.perf_counter() - began) * 1e3)


@contextmanager
def started_upstream(binary: Path, cores: Cores, log: Path) -> Iterator[int]:
    """Run a fake upstream and yield its port."""
    port = free_port()
    with running([binary, str(port)], cores=cores.others, log=log) as program:
        wait_for_answer(program, port)
        yield port


def wait_for_answer(program: Program, port: int, headers: str = "") -> None:
    deadline = time.monotonic() + START_S
    while not ask(port, headers):
        if program.has_ended or time.monotonic() > deadline:
            raise NotStartedError(program.log.read_text(errors="replace")[-2000:])
        time.sleep(PAUSE_S)
