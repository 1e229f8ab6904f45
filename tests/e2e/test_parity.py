"""Client libraries raise through the proxy what they raise when they ask the server directly."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import anthropic
import ollama
import openai
import pytest

from nexus.simulator import Decline, Settings, Simulator, in_thread
from nexus.testing.fleets import table_of
from tests.support.process import run_nexus

KINDS = {
    "openai": ("generic", "vllm", "llamacpp", "sglang", "lmstudio", "ollama"),
    "anthropic": ("generic", "vllm", "llamacpp", "sglang", "lmstudio", "ollama"),
    "ollama": ("ollama", "sglang"),
}
"""By the library, which simulated servers it can ask."""
ERRORS = ("too_long", "rate_limited", "overloaded", "unauthorized")
IN_STREAM = {("lmstudio", "too_long", True)}
"""What a server says after the head of a stream: the proxy, which sends no head before it has an answer, says it with a
status, and libraries then raise a more special error."""
LITELLM = [
    *(("openai", "/v1", kind) for kind in KINDS["openai"]),
    ("hosted_vllm", "/v1", "vllm"),
    ("anthropic", "", "generic"),
    ("ollama_chat", "", "ollama"),
]
"""Its names for providers, where it expects them below a server's URL, and the servers that it asks so."""
QUESTION = [{"role": "user", "content": "hello there"}]


class Raised(NamedTuple):
    """What a library raised."""

    classes: tuple[str, ...]
    """Of the exception, the most special first."""
    status: int | None
    text: str


def raised_by(exc: Exception) -> Raised:
    classes = tuple(cls.__name__ for cls in type(exc).__mro__)
    return Raised(classes, getattr(exc, "status_code", None), str(exc))


def ask_with_openai(url: str, model: str, *, stream: bool) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="sk-mine", max_retries=0) as client:
        answer = client.chat.completions.create(model=model, messages=QUESTION, stream=stream)
        list(answer)


def ask_with_anthropic(url: str, model: str, *, stream: bool) -> None:
    with anthropic.Anthropic(base_url=url, api_key="sk-mine", max_retries=0) as client:
        answer = client.messages.create(model=model, messages=QUESTION, max_tokens=9, stream=stream)
        list(answer)


def ask_with_ollama(url: str, model: str, *, stream: bool) -> None:
    client = ollama.Client(url)
    try:
        answer = client.chat(model, QUESTION, stream=stream)
        list(answer)
    finally:
        client.close()


ASK = {"openai": ask_with_openai, "anthropic": ask_with_anthropic, "ollama": ask_with_ollama}


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[tuple[str, dict[str, Simulator]]]:
    """Start a proxy in front of a server of each kind, each alone with a model of its kind's name."""
    simulators = {kind: Simulator(Settings(name=kind, kind=kind, models=(kind,))) for kind in KINDS["openai"]}
    with ExitStack() as running:
        running.enter_context(in_thread(*simulators.values()))
        tables = [
            table_of(simulator, type=kind, **({"protocols": ["openai", "anthropic"]} if kind == "generic" else {}))
            for kind, simulator in simulators.items()
        ]
        nexus = running.enter_context(run_nexus(tmp_path_factory.mktemp("parity"), "".join(tables)))
        yield nexus.url, simulators


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(("library", "kind"), [(name, kind) for name in ASK for kind in KINDS[name]])
def test_a_library_raises_what_it_raises_directly(servers, library, kind, error, stream):
    nexus_url, simulators = servers
    simulator = simulators[kind]
    simulator.faults.set(Decline(reason=error))

    direct, passed = (_raised(library, url, kind, stream=stream) for url in (simulator.url, nexus_url))

    if (kind, error, stream) in IN_STREAM:
        assert direct.classes[0] in passed.classes
    else:
        assert passed == direct


def _raised(library: str, url: str, model: str, *, stream: bool) -> Raised:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one it is, is the question
        ASK[library](url, model, stream=stream)
    return raised_by(caught.value)


@pytest.fixture(scope="module")
def litellm_process() -> Iterator[subprocess.Popen[str]]:
    if importlib.util.find_spec("litellm") is None:
        pytest.skip("litellm is not installed: pip install litellm")
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("ask_with_litellm.py"))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, env=os.environ | {"NO_PROXY": "*"}, **pipes) as process:
        yield process
        process.kill()


@pytest.mark.timeout(90)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(("provider", "base", "kind"), LITELLM)
def test_litellm_raises_what_it_raises_directly(servers, litellm_process, provider, base, kind, error, stream):
    nexus_url, simulators = servers
    simulator = simulators[kind]
    simulator.faults.set(Decline(reason=error))

    answers = []
    for url in (simulator.url, nexus_url):
        question = {"model": f"{provider}/{kind}", "api_base": f"{url}{base}", "stream": stream}
        litellm_process.stdin.write(json.dumps(question) + "\n")
        litellm_process.stdin.flush()
        answers.append(json.loads(litellm_process.stdout.readline()))
    direct, passed = answers

    assert direct["classes"]
    if (kind, error, stream) in IN_STREAM:
        assert passed["classes"]
    else:
        assert passed == direct
