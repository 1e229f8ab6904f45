"""A running proxy with all plugins and requests of every kind, and its metrics."""

import http.client
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nexus.simulator import Settings, SimulatedModel, Simulator, Status, in_thread
from nexus.simulator.faults import Stall
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until
from tests.support.process import NexusProcess, run_nexus

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def load(path):
    """Import a file that is not part of a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


promql = load(HERE / "promql.py")
machine = load(HERE / "scratch_root.py")
service = load(HERE / "service_unit.py")

CHAT = "/v1/chat/completions"
CONFIG = """
[store]
kind = "sqlite"
[routing]
strategy = "priority_only"
observe = ["clumsy-slow"]
[routing.fallbacks]
retired = ["llama3"]
[[routing.policies]]
model_pattern = "secret"
privacy = "restricted"
[[routing.policies]]
model_pattern = "llama*"
min_tier = 2
[[routing.policies]]
model_pattern = "dear"
max_cost_per_request = 0.0
[queue]
max_wait_seconds = 1.0
[plugins.budget]
monthly_limit_usd = 0.01
sync_interval_seconds = 0.1
[[plugins.budget.prices]]
model = "paid"
request_usd = 1.0
"""


class Told:
    """The metrics of one page, except those of the plugin that fails on purpose."""

    def __init__(self, page: str) -> None:
        self.page = page
        families = text_string_to_metric_families(page)
        self.families = {family.name: family for family in families if not family.name.startswith("nexus_clumsy_")}
        self.samples: dict[str, promql.Family] = {}
        """By the name of a sample: the family with ``_total``, ``_bucket``, ``_sum`` or ``_count``."""
        for family in self.families.values():
            for sample in family.samples:
                before = self.samples.get(sample.name)
                labels = frozenset(sample.labels) | (before.labels if before else frozenset())
                self.samples[sample.name] = promql.Family(family.type, labels)


class Busy(NamedTuple):
    """A proxy and its backends."""

    nexus: NexusProcess
    fast: Simulator
    spare: Simulator
    narrow: Simulator

    def send_all(self) -> None:
        """Send a request of every kind."""
        url = self.nexus.url
        fine = [
            chat(),
            chat(stream=True, stream_options={"include_usage": True}),
            chat(text="a prompt of several blocks " * 200),
            chat(text="a prompt of several blocks " * 250),
            chat("retired"),
            chat("unpriced"),
            chat("paid"),
        ]
        for body in (*fine, chat("dear"), chat("secret"), chat("invented-by-a-client"), b"{"):
            ask(url, CHAT, body)
        ask(url, "/v1/embeddings", {"model": "llama3", "input": "hi"})
        ask(url, "/v1/messages", {**chat(), "max_tokens": 1})
        ask(url, CHAT, chat(), headers={"X-Nexus-Flexible": "true"})
        ask(url, "/nothing/here")
        self.fast.faults.set(Status(status=503, times=1))
        ask(url, CHAT, chat())
        self._leave()
        self._wait_in_line()
        self._open_a_breaker()

    def _leave(self) -> None:
        """Disconnect before the response."""
        self.fast.faults.set(Stall(phase="before_headers", times=1))
        before = len(self.fast.requests)
        with closing(self._begin(chat())):
            until(lambda: len(self.fast.requests) > before)

    def _wait_in_line(self) -> None:
        """Queue for the only slot until a timeout, until the client disconnects, and until it is free."""
        self.narrow.faults.set(Stall(phase="before_headers", times=1))
        before = len(self.narrow.requests)
        with closing(self._begin(chat("tiny"))) as holding:
            until(lambda: len(self.narrow.requests) > before)
            with closing(self._begin(chat("tiny"))) as in_vain:
                with closing(self._begin(chat("tiny"))):
                    until(lambda: b"\nnexus_queue_depth 2" in ask(self.nexus.url, "/metrics").body)
                in_vain.getresponse().read()
            with closing(self._begin(chat("tiny"))) as lucky:
                until(lambda: b"\nnexus_queue_depth 1" in ask(self.nexus.url, "/metrics").body)
                holding.close()
                lucky.getresponse().read()

    def _open_a_breaker(self) -> None:
        """Fail requests until the breaker of one model opens."""
        self.fast.faults.set(Status(status=500, times=3))
        for _ in range(3):
            ask(self.nexus.url, CHAT, chat())

    def _begin(self, body: dict[str, object]) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self.nexus.url.removeprefix("http://"), timeout=20)
        connection.request("POST", CHAT, json.dumps(body), {"Content-Type": "application/json"})
        return connection


@pytest.fixture(scope="session")
def busy(tmp_path_factory) -> Iterator[Busy]:
    """A proxy that has handled requests of every kind."""
    for plugin in ("nexus_affinity", "nexus_budget", "nexus_privacy", "nexus_quality", "nexus_tier"):
        pytest.importorskip(plugin)
    fast = Simulator(Settings(name="fast", models=("llama3", "secret"), tokens_per_s=500.0))
    spare = Simulator(Settings(name="spare", models=("llama3",)))
    narrow = Simulator(Settings(name="narrow", models=("tiny", "llama3")))
    cloud = Simulator(Settings(name="cloud", models=("paid", "unpriced", "dear", "secret")))
    rack = Simulator(Settings(name="rack", kind="vllm", models=("mistral",)))
    laptop = Simulator(Settings(name="laptop", kind="ollama", models=(SimulatedModel("gemma"),)))
    with ExitStack() as running:
        running.enter_context(in_thread(fast, spare, narrow, cloud, laptop, rack))
        config = (
            CONFIG
            + table_of(fast, type="generic", priority=0, tier=2)
            + table_of(spare, type="generic", priority=99, tier=2)
            + table_of(narrow, type="generic", max_in_flight=1)
            + table_of(cloud, type="openai", zone="open")
            + table_of(laptop)
            + table_of(rack)
        )
        folder = tmp_path_factory.mktemp("busy")
        plugin = ("--plugin", str(HERE / "clumsy.py"))
        nexus = running.enter_context(run_nexus(folder, config, arguments=plugin))
        busy = Busy(nexus, fast, spare, narrow)
        busy.send_all()
        yield busy


@pytest.fixture(scope="session")
def told(busy) -> Told:
    """Its metrics."""
    wanted = (
        "nexus_backend_reported_requests{",
        "nexus_budget_events_total{",
        "nexus_quality_failures_total{",
        "nexus_budget_status{",
    )

    def page() -> str:
        text = ask(busy.nexus.url, "/metrics").body.decode()
        return text if all(sample in text for sample in wanted) else ""

    return Told(until(page))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def read_query() -> Callable[[str], promql.Query]:
    """Return the parser of queries."""
    return promql.Query


@pytest.fixture(scope="session")
def complaints(told) -> Callable[..., list[str]]:
    """Return a function that lists the errors of a query.

    :param recorded: the labels of recorded series, by name.
    """

    def of(expr, recorded=()):
        known = {name: promql.Family("gauge", labels) for name, labels in dict(recorded).items()}
        up = promql.Family("gauge", frozenset())
        return promql.complaints(expr, {**told.samples, **known, "up": up})

    return of


@pytest.fixture(scope="session")
def promtool() -> Callable[..., str]:
    """Return a function that runs promtool, and returns its output."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (it comes with Debian's prometheus)")

    def run(*words: str, stdin: str = "", may_complain: bool = False) -> str:
        ended = subprocess.run([program, *words], input=stdin, capture_output=True, text=True, timeout=60, check=False)
        said = ended.stdout + ended.stderr
        assert may_complain or ended.returncode == 0, said
        return said

    return run


@pytest.fixture(scope="session")
def cannot_be_set_up():
    """Why no scratch machine can be set up here; None if it is possible."""
    return machine.why_not()


@pytest.fixture(scope="session")
def packages(tmp_path_factory, cannot_be_set_up):
    """The installed packages in a folder that any user can read."""
    if cannot_be_set_up:
        pytest.skip(cannot_be_set_up)
    folder = tmp_path_factory.mktemp("installed") / "packages"
    machine.copy_packages(folder)
    return folder


@pytest.fixture
def scratch(tmp_path, packages):
    """A scratch machine with nothing set up."""
    before = os.umask(0o022)
    (tmp_path / "root").mkdir()
    with machine.scratch_root(tmp_path / "root", ROOT, packages) as root:
        yield root
    os.umask(before)


@pytest.fixture(scope="session")
def dockerfile():
    """The module that executes a Dockerfile."""
    return load(HERE / "dockerfile.py")


@pytest.fixture
def blocks_of(root):
    """Return a function that returns the code blocks of a how-to in one language."""

    def blocks(page, language):
        text = (root / "docs/howto" / f"{page}.rst").read_text()
        pattern = rf"^( *)\.\. code-block:: {language}\n\n((?:\1   .*\n|\n)+)"
        return [dedent(block).strip() + "\n" for _, block in re.findall(pattern, text, re.MULTILINE)]

    return blocks


@pytest.fixture
def unit_on(scratch):
    """Return a function that returns the installed systemd unit."""
    return lambda: service.Unit(scratch, "nexus-proxy")


@pytest.fixture
def simulated(scratch):
    """Return a function that starts a simulator on the machine, and returns its URL."""
    with ExitStack() as running:

        def start(*words, port=9000):
            command = [sys.executable, "-m", "nexus.simulator", "--port", str(port), *words]
            process = running.enter_context(scratch.started(command, log=f"/run/simulator-{port}.log"))
            scratch.wait_for_port(process, port)
            return f"http://127.0.0.1:{port}"

        yield start
