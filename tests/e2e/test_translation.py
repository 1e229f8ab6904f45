"""Every client library on every backend that speaks only another dialect, through one proxy."""

import json
import re
from contextlib import ExitStack
from urllib.request import urlopen

import pytest

from nexus.simulator import (
    CallTool,
    Cut,
    Decline,
    ErrorEvent,
    Say,
    Settings,
    SimulatedModel,
    Simulator,
    Stall,
    Think,
    Unfinished,
    in_thread,
)
from nexus.testing.client import ask
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until
from tests.support.client_libraries import LIBRARIES, Asked
from tests.support.process import run_nexus

PATHS = {
    "openai": "/v1/chat/completions",
    "responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "ollama": "/api/chat",
}
"""Where each backend is asked; it has none of the others."""
TYPES = {"openai": "generic", "responses": "generic", "anthropic": "anthropic", "ollama": "ollama"}
SCRIPT = (
    Think("let me see"),
    Say("I look at both"),
    CallTool("weather", '{"z":"Oslo","a":[1, 2.50]}'),
    CallTool("clock"),
)
TOOLS = {
    "weather": {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "array", "items": {}}}},
    "clock": {"type": "object", "properties": {}},
}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "population": {"type": "integer"}},
    "required": ["name", "population"],
    "additionalProperties": False,
}
PNG = "iVBORw0KGgo="
FINISH = {
    "openai": ("stop", "tool_calls"),
    "responses": ("completed", "completed"),
    "anthropic": ("end_turn", "tool_use"),
    "ollama": ("stop", "stop"),
}
"""The reasons of the end of a text and of calls."""
FIRST_WORDS = {"openai": 6, "responses": 8, "anthropic": 6, "ollama": 5}
"""Events of each backend, of which the last ones have words."""
PAIRS = [(client, backend) for client in LIBRARIES for backend in PATHS if client != backend]


@pytest.fixture(scope="module")
def backends():
    """One strict server of each dialect, with a model that is named after it."""
    started = {}
    with ExitStack() as running:
        for name, path in PATHS.items():
            missing = tuple(other for other in PATHS.values() if other != path)
            model = SimulatedModel(name, 8192, ("completion", "tools", "thinking", "vision", "embedding"))
            kind = "ollama" if name == "ollama" else "generic"
            settings = Settings(
                name=f"{name}-1", kind=kind, models=(model,), script=SCRIPT, is_strict=True, missing_paths=missing
            )
            started[name] = Simulator(settings)
            running.enter_context(in_thread(started[name]))
        yield started


@pytest.fixture(scope="module")
def nexus(backends, tmp_path_factory):
    tables = [table_of(backend, type=TYPES[name]) for name, backend in backends.items()]
    tables[-1] += 'protocols = ["ollama"]\n'
    with run_nexus(tmp_path_factory.mktemp("translation"), "".join(tables)) as process:
        yield process


@pytest.fixture(scope="module")
def libraries(nexus):
    connected = {name: library(nexus.url) for name, library in LIBRARIES.items()}
    yield connected
    for library in connected.values():
        library.close()


@pytest.fixture(autouse=True)
def nothing_is_held(backends, nexus):
    """Clear faults, and let no test leave a request behind."""
    yield
    for backend in backends.values():
        backend.faults.clear()
        until(lambda backend=backend: not backend.active)
    until(lambda: not any(map(float, GAUGES.findall(metrics_of(nexus)))))


GAUGES = re.compile(r"^nexus_(?:requests_in_flight|pending_requests|queue_depth)(?:\{.*\})? (\S+)$", re.MULTILINE)
"""What is zero when no request is under way."""


def metrics_of(nexus):
    with urlopen(f"{nexus.url}/metrics", timeout=5) as page:
        return page.read().decode()


def last_body(backends, name):
    return json.loads(backends[name].received(PATHS[name])[-1].request.body)


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("client", "backend"), PAIRS)
def test_a_question_is_answered(libraries, client, backend, is_stream):
    said = libraries[client].ask(Asked(model=backend, is_stream=is_stream))

    assert said.text == "I look at both"
    assert said.finish == FINISH[client][0]
    assert said.output_tokens > 0
    assert not said.calls


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("client", "backend"), PAIRS)
def test_tools_are_called_in_parallel_over_two_turns(libraries, backends, client, backend, is_stream):
    asked = Asked(model=backend, tools=TOOLS, is_stream=is_stream)

    first = libraries[client].ask(asked)
    second = libraries[client].answer(asked, first, ["rain", "noon"])

    assert first.finish == FINISH[client][1]
    assert first.text == "I look at both"
    assert [(call.name, call.arguments) for call in first.calls] == [
        ("weather", {"z": "Oslo", "a": [1, 2.5]}),
        ("clock", {}),
    ]
    assert len({call.id for call in first.calls}) == (1 if client == "ollama" else 2)
    assert second.text.startswith(f"{backend}-1: you said")
    sent = backends[backend].received(PATHS[backend])[-1].request.body.decode()
    if client != "ollama":
        # The ollama library parses arguments; all others send them back as they came.
        assert re.search(r'z\\*":\s*\\*"Oslo\\*",\s*\\*"a', sent)
    assert sent.index("rain") < sent.index("noon")


@pytest.mark.parametrize(("client", "backend"), [pair for pair in PAIRS if "ollama" not in pair])
def test_one_call_at_a_time_is_kept_to(libraries, client, backend):
    """Of the APIs that can ask for it."""
    said = libraries[client].ask(Asked(model=backend, tools=TOOLS, is_parallel=False))

    assert [call.name for call in said.calls] == ["weather"]


@pytest.mark.parametrize(("client", "backend"), PAIRS)
def test_an_image_reaches_the_model(libraries, backends, client, backend):
    said = libraries[client].ask(Asked(model=backend, text="look", image=PNG))

    assert said.text == "I look at both"
    assert PNG in json.dumps(last_body(backends, backend))


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("client", "backend"), PAIRS)
def test_an_answer_fits_a_schema(libraries, client, backend, is_stream):
    said = libraries[client].ask(Asked(model=backend, schema=SCHEMA, is_stream=is_stream))

    assert json.loads(said.text) == {"name": f"{backend}-1", "population": 1}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("client", "backend"), PAIRS)
def test_thoughts_come_before_the_text(libraries, client, backend, is_stream):
    said = libraries[client].ask(Asked(model=backend, thinks=True, is_stream=is_stream))

    # OpenAI makes summaries only for those who ask for them, which a client of its chat API cannot.
    shown = "" if (client, backend) == ("openai", "responses") else "let me see"
    assert (said.thoughts, said.text) == (shown, "I look at both")


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("client", "backend"), PAIRS)
def test_a_refusal_is_the_library_s_own_error(libraries, backends, client, backend, is_stream):
    library = libraries[client]
    backends[backend].faults.set(Decline(reason="too_long"))

    with pytest.raises(library.status_error) as raised:
        library.ask(Asked(model=backend, is_stream=is_stream))

    assert raised.value.status_code == 400


@pytest.mark.parametrize(
    "fault", [ErrorEvent(after_events=4), Cut(after_events=4), Unfinished()], ids=["error", "cut", "end"]
)
@pytest.mark.parametrize(("client", "backend"), PAIRS)
def test_a_stream_that_fails_raises(libraries, backends, client, backend, fault):
    library = libraries[client]
    backends[backend].faults.set(fault)

    with pytest.raises(library.failures):
        list(library.words(Asked(model=backend)))


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("backend", ["openai", "responses", "anthropic"])
def test_a_completion_of_ollama_is_answered(nexus, backend, is_stream):
    answer = ask(nexus.url, "/api/generate", {"model": backend, "prompt": "hello", "stream": is_stream})
    lines = [json.loads(line) for line in answer.body.splitlines()]

    assert "".join(line["response"] for line in lines) == "I look at both"
    assert (lines[-1]["done"], lines[-1]["done_reason"]) == (True, "stop")


@pytest.mark.parametrize(
    ("path", "model", "member"),
    [("/v1/embeddings", "ollama", "data"), ("/api/embed", "openai", "embeddings")],
)
def test_texts_are_embedded_in_the_other_dialect(nexus, path, model, member):
    answer = ask(nexus.url, path, {"model": model, "input": ["one", "two"]})

    assert answer.headers["X-Nexus-Translated"]
    assert len(json.loads(answer.body)[member]) == 2


def test_a_reply_names_its_translation_and_what_was_lost(nexus):
    asked = {"model": "anthropic", "messages": [{"role": "user", "content": "x"}], "seed": 1, "invented": True}

    reply = ask(nexus.url, "/v1/chat/completions", asked)

    assert reply.headers["X-Nexus-Translated"] == "openai->anthropic"
    assert reply.headers["X-Nexus-Untranslated"] == "invented, seed"


@pytest.mark.parametrize(("client", "backend"), PAIRS)
def test_a_client_that_leaves_stops_the_backend(libraries, backends, client, backend):
    backends[backend].faults.set(Stall(phase="mid_stream", after_events=FIRST_WORDS[backend]))
    already = len(backends[backend].aborted)

    words = libraries[client].words(Asked(model=backend))
    next(words)
    words.close()

    until(lambda: len(backends[backend].aborted) > already)
