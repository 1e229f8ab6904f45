"""A running ``nexus-proxy`` in front of simulated servers, and the client libraries that people use."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import anthropic
import ollama
import openai
import pytest

from nexus.simulator import Settings, SimulatedModel, Simulator, in_thread
from nexus.testing.fleets import table_of
from tests.support.forking import forks, may_fork
from tests.support.name_server import PLUGIN, NameServer
from tests.support.process import NexusProcess, run_nexus

GEMMA = SimulatedModel("gemma", 8192, ("completion", "tools"))
EMBEDDER = SimulatedModel("nomic-embed-text", 2048, ("embedding",))

COMMAND_S = 40

FLEET_CONFIG = """
[server]
max_body_bytes = 1_000_000

[routing.aliases]
gpt-4o = "llama3"
claude = "qwen3"

[routing.fallbacks]
retired = ["llama3"]
"""


def pytest_xdist_auto_num_workers():
    """Use more workers than cores: these tests wait most of their time."""
    return 2 * (os.cpu_count() or 1)


class Fleet(NamedTuple):
    """One proxy and the servers behind it."""

    nexus: NexusProcess
    gpu: Simulator
    """Speaks OpenAI; has llama3 and whisper."""
    vllm: Simulator
    """Speaks OpenAI and Anthropic; has qwen3 and org/mixtral."""
    laptop: Simulator
    """An Ollama; has gemma and nomic-embed-text."""

    @property
    def url(self) -> str:
        return self.nexus.url

    @property
    def simulators(self) -> tuple[Simulator, ...]:
        return self.gpu, self.vllm, self.laptop

    def having(self, model: str) -> Simulator:
        return next(s for s in self.simulators if any(m.name == model for m in s.settings.catalogue))


@pytest.fixture(scope="session")
def shared_fleet(tmp_path_factory) -> Iterator[Fleet]:
    gpu = Simulator(Settings(name="gpu-1", kind="generic", models=("llama3", "whisper")))
    vllm = Simulator(Settings(name="gpu-2", kind="vllm", models=("qwen3", "org/mixtral")))
    laptop = Simulator(Settings(name="laptop", kind="ollama", models=(GEMMA, EMBEDDER)))
    with in_thread(gpu, vllm, laptop):
        config = FLEET_CONFIG + table_of(gpu, type="generic") + table_of(vllm) + table_of(laptop)
        with run_nexus(tmp_path_factory.mktemp("fleet"), config) as nexus:
            yield Fleet(nexus, gpu, vllm, laptop)


@pytest.fixture
def fleet(shared_fleet) -> Iterator[Fleet]:
    """The fleet that most tests share; faults are cleared after each test."""
    yield shared_fleet
    for simulator in shared_fleet.simulators:
        simulator.faults.clear()


@pytest.fixture
def openai_client(fleet) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(fleet) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=fleet.url, api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture
def ollama_client(fleet) -> Iterator[ollama.Client]:
    client = ollama.Client(fleet.url)
    yield client
    client.close()


@pytest.fixture
def simulate() -> Iterator[Callable[..., Simulator]]:
    """Return a function that starts a simulator."""
    with ExitStack() as running:

        def start(**settings) -> Simulator:
            simulator = Simulator(Settings(**{"name": "gpu-1", **settings}))
            running.enter_context(in_thread(simulator))
            return simulator

        yield start


@pytest.fixture
def start_nexus(tmp_path) -> Iterator[Callable[..., NexusProcess]]:
    """Return a function that starts a proxy with a configuration."""
    with ExitStack() as running:

        def start(config: str, **options) -> NexusProcess:
            return running.enter_context(run_nexus(tmp_path, config, **options))

        yield start


@pytest.fixture
def zone() -> Iterator[NameServer]:
    """A name server with no records."""
    with NameServer() as zone:
        yield zone


@pytest.fixture
def asking_zone(zone, tmp_path) -> Callable[[float], tuple[str, ...]]:
    """Return a function that returns the arguments of a proxy that resolves names in the zone, with a minimum TTL."""
    plugin = tmp_path / "name_server.py"

    def arguments(min_ttl_s):
        plugin.write_text(PLUGIN.format(port=zone.port, min_ttl_s=min_ttl_s))
        return ("--plugin", str(plugin))

    return arguments


def environ_of_commands(tmp_path: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
    return inherited | {"XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path)}


@pytest.fixture
def command(tmp_path, new_command) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs ``nexus-proxy`` with *words* in an empty folder, and waits for its end.

    It is a fork of a process that has imported it, where a fork is like a new process.
    """

    def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        whole = environ_of_commands(tmp_path) | environ
        if not may_fork(whole):
            return new_command(*words, **environ)
        return forks().run(words, tmp_path, whole, COMMAND_S)

    return run


@pytest.fixture
def new_command(tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that does what that of ``command`` does, always with an interpreter of its own."""

    def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "nexus", *words],
            cwd=tmp_path,
            env=environ_of_commands(tmp_path) | environ,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )

    return run
