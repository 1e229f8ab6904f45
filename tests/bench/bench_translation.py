"""What a translated stream and request cost, beside native ones: ``python tests/bench/bench_translation.py [--check]``.

A started proxy streams the same answers to a client that its backend understands and to one that it does not, in turn;
the CPU time of the proxy for an event of each is compared. With ``--check`` it fails where an event costs more than
``MAX_EVENT_RATIO`` times a native one, or a large request takes longer than ``MAX_REQUEST_MS``. It needs Linux.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from time import process_time
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench_wire import measure

from nexus.simulator import Settings, SimulatedModel, Simulator, in_thread
from nexus.testing.fleets import table_of
from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.translation.dialects import DIALECTS, convert, translations
from tests.support.process import NexusProcess, run_nexus

MAX_EVENT_RATIO: Final = 3.0
MAX_REQUEST_MS: Final = 2.0
TURNS: Final = 66
"""Of an agent: about 100 kB."""
TOKENS: Final = 600
STREAMS: Final = 6
ROUNDS: Final = 4
REPEATS: Final = 30
PATHS: Final = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "ollama": "/api/chat"}
SERVERS: Final = {
    "openai": ("generic", "generic"),
    "anthropic": ("generic", "anthropic"),
    "ollama": ("ollama", "ollama"),
}
"""By protocol: the kind of a simulator, and of a backend, that speak it."""
ABOUT: Final = About(model="m", id="abc", created=1_700_000_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a limit is exceeded")
    is_check = parser.parse_args().check
    exceeded = [*large_requests(), *streams()]
    if is_check and exceeded:
        sys.exit("\n".join(exceeded))


def large_requests() -> list[str]:
    """Measure the translation of requests with many tools and calls; return which take too long."""
    exceeded = []
    for client, backends in translations().items():
        if client not in LARGE:
            continue
        body = LARGE[client]()
        for backend in backends:
            call = partial(convert, client, backend, body, Target(model="m"), ABOUT)
            measure(f"{client} to {backend}, {len(body)} bytes", call)
            best_ms = min(milliseconds(call) for _ in range(REPEATS))
            if best_ms > MAX_REQUEST_MS:
                exceeded.append(f"{client} to {backend}: {best_ms:.2f} ms for a request of {len(body)} bytes")
    return exceeded


def milliseconds(call: Any) -> float:
    began = process_time()
    call()
    return (process_time() - began) * 1000


def turns() -> list[dict[str, Any]]:
    """Return the turns of an agent in OpenAI's chat dialect, each a call and its result, no two of them alike."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "mend it"}]
    for turn in range(TURNS):
        arguments = {"path": f"src/file_{turn}.py", "lines": list(range(turn)), "text": f'print("{turn}")\n' * 8}
        function = {"name": f"tool_{turn % 20}", "arguments": json.dumps(arguments)}
        call = {"id": f"call_{turn}", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": f"step {turn}", "tool_calls": [call]})
        text = "".join(f"{turn}:{line} some text of a file\n" for line in range(25))
        messages.append({"role": "tool", "tool_call_id": f"call_{turn}", "content": text})
    return messages


def schema(number: int) -> dict[str, Any]:
    properties = {f"field_{number}_{at}": {"type": "string", "description": f"what {at} says"} for at in range(8)}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def chat_request() -> bytes:
    tools = [
        {"type": "function", "function": {"name": f"tool_{n}", "description": f"does {n}", "parameters": schema(n)}}
        for n in range(20)
    ]
    return json.dumps({"model": "m", "messages": turns(), "tools": tools, "stream": True}).encode()


def translated_request(endpoint: str) -> bytes:
    return convert("openai.chat", endpoint, chat_request(), Target(model="m"), ABOUT).body


LARGE: Final[Mapping[str, Any]] = {
    "openai.chat": chat_request,
    **{name: partial(translated_request, name) for name in DIALECTS if name not in ("openai.chat", "ollama.generate")},
}
"""By endpoint: makes a large request to it."""


def streams() -> list[str]:
    """Measure native and translated streams in turn; return which cost too much."""
    with ExitStack() as running:
        tables = []
        for backend, (kind, type_) in SERVERS.items():
            settings = Settings(name=backend, kind=kind, models=(SimulatedModel(backend),), answer_tokens=TOKENS)
            simulator = Simulator(settings)
            running.enter_context(in_thread(simulator))
            tables.append(f'{table_of(simulator, type=type_)}protocols = ["{backend}"]\n')
        folder = running.enter_context(tempfile.TemporaryDirectory())
        nexus = running.enter_context(run_nexus(Path(folder), "".join(tables), own_interpreter=True))
        return [exceeded for backend in SERVERS for exceeded in compare(nexus, backend)]


def compare(nexus: NexusProcess, backend: str) -> list[str]:
    costs: dict[str, list[float]] = {client: [] for client in PATHS}
    for client in PATHS:
        stream(nexus, client, backend)
    for _ in range(ROUNDS):
        for client, found in costs.items():
            before = cpu_s(nexus)
            for _ in range(STREAMS):
                stream(nexus, client, backend)
            found.append((cpu_s(nexus) - before) / (STREAMS * TOKENS) * 1e6)
    native_us = min(costs[backend])
    exceeded = []
    for client, found in costs.items():
        ratio = min(found) / native_us
        print(f"{client} from {backend}: {min(found):6.2f} us of CPU for an event, {ratio:.2f} x native")  # noqa: T201
        if ratio > MAX_EVENT_RATIO:
            exceeded.append(f"{client} from {backend}: an event costs {ratio:.2f} times a native one")
    return exceeded


def stream(nexus: NexusProcess, client: str, model: str) -> None:
    """Read one streamed answer to its end."""
    messages = [{"role": "user", "content": "tell me"}]
    body = {"model": model, "stream": True, "messages": messages, "max_tokens": TOKENS * 2}
    connection = HTTPConnection("127.0.0.1", nexus.port, timeout=30)
    connection.request("POST", PATHS[client], json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != HTTPStatus.OK:
        raise RuntimeError(response.read().decode())
    while response.read(65536):
        pass
    connection.close()


def cpu_s(nexus: NexusProcess) -> float:
    """Return the CPU time of all threads of the proxy."""
    files = Path(f"/proc/{nexus.process.pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


if __name__ == "__main__":
    main()
