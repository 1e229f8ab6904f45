"""What engines answer is decoded to the right facts."""

import json
from contextlib import suppress

import pytest
from msgspec.structs import replace

from nexus.domain.engine_report import EngineReport
from nexus.domain.kinds import ServerFacts
from nexus.domain.model import ModelFacts
from nexus.domain.request import TokenUsage
from nexus.fleet.fetching import Target
from nexus.fleet.kinds import KINDS
from nexus.fleet.loads.endpoints import ABSENT, Endpoints
from nexus.fleet.probing.detection import detect
from nexus.wire.errors.context import ContextExceeded, context_exceeded
from nexus.wire.errors.missing_model import names_missing_model
from tests.support.transcripts import RecordedServer, folders, kind_of, read, usage_in, wire_of

SERVER = Target("http://192.168.1.5:8000")
LLAMACPPS = ("llamacpp-b10434", "llamacpp-b11549")
ENGINES = (*LLAMACPPS, "vllm-0.32.0")


# detection

DETECTED = {
    "llamacpp-b10434": "llamacpp",
    "llamacpp-b10434-router": "llamacpp",
    "llamacpp-b10434-with-key": "llamacpp",
    "llamacpp-b10434-sleeping": "llamacpp",
    "llamacpp-b10434-without-key": "llamacpp",
    "llamacpp-b11549": "llamacpp",
    "llamacpp-b11549-sleeping": "llamacpp",
    "llamacpp-b11549-with-key": "llamacpp",
    "llamacpp-b11549-without-key": "llamacpp",
    "ollama-0.33": "ollama",
    "vllm-0.32.0": "vllm",
    "vllm-0.32.0-with-key": "vllm",
    # All that vLLM answers without its key could come from other servers.
    "vllm-0.32.0-without-key": None,
}


def test_each_folder_is_in_the_table():
    assert set(DETECTED) == set(folders())


@pytest.mark.parametrize("folder", [folder for folder in DETECTED if not folder.endswith("-sleeping")])
async def test_the_kind_of_an_engine_is_detected(folder):
    detected = await detect(RecordedServer(folder), SERVER)

    assert (detected.kind, detected.is_certain) == (DETECTED[folder], True)


async def test_llamacpp_is_detected_while_it_loads():
    loading = RecordedServer("llamacpp-b10434", "llamacpp-b10434/props-loading", "llamacpp-b10434/models-loading")

    assert (await detect(loading, SERVER)).kind == "llamacpp"


@pytest.mark.parametrize("name", [f"{folder}/health{busy}" for folder in ENGINES for busy in ("", "-busy")])
def test_an_engine_is_healthy_under_any_load(name):
    health = read(name)

    assert (health.path, health.response.status) == (kind_of(name).health_path, 200)


def test_a_loading_llamacpp_is_not_healthy_and_says_so():
    for name in ("health-loading", "props-loading", "models-loading", "chat-loading"):
        assert read(f"llamacpp-b10434/{name}").response.status == 503


# models and servers


def known(model):
    """Return what a model list says: the facts that are not unknown, without the time of the recording."""
    defaults = ModelFacts(name="")
    facts = {name: getattr(model, name) for name in ModelFacts.__struct_fields__}
    return {name: value for name, value in facts.items() if name != "created" and value != getattr(defaults, name)}


UNLOADED = [{"name": "big"}, {"name": "other"}, {"name": "tiny"}]
BIG, OTHER, TINY = ({"name": name, "context_length": 2048, "vision": False} for name in ("big", "other", "tiny"))
CAPABLE = {"vision": False, "tools": True, "thinking": False}
"""What Ollama reports of most models."""

LISTED = {
    "llamacpp-b10434/models": [{"name": "tiny", "context_length": 2048}],
    "llamacpp-b10434-without-key/models": [{"name": "tiny", "context_length": 2048}],
    "llamacpp-b11549/models": [TINY],
    "llamacpp-b10434-router/models": UNLOADED,
    # The context of one of two slots, not the --ctx-size that they share.
    "llamacpp-b10434-router/all-models-loaded": [{"name": "big"}, {"name": "other"}, TINY],
    "llamacpp-b10434-router/all-models-loading": [{"name": "big"}, OTHER, {"name": "tiny"}],
    "llamacpp-b10434-router/all-models-evicted": [BIG, OTHER, {"name": "tiny"}],
    "vllm-0.32.0/models": [{"name": "tiny", "context_length": 2048}],
    "ollama-0.33/api-tags": [
        {"name": "tiny:latest", "context_length": 8192, **CAPABLE, "revision": "11" * 32},
        {
            "name": "other:1b",
            "context_length": 131072,
            **CAPABLE,
            "vision": True,
            "tools": False,
            "revision": "22" * 32,
        },
        {
            "name": "embed:latest",
            "context_length": 2048,
            **CAPABLE,
            "tools": False,
            "embeddings": True,
            "revision": "33" * 32,
        },
        # Ollama forwards it to its own cloud.
        {"name": "far:cloud", **CAPABLE, "revision": "44" * 32, "zone": "open"},
    ],
    "ollama-0.33/api-tags-old": [{"name": "tiny:latest", "revision": "11" * 32}],
    "ollama-0.33/api-tags-empty": [],
}


@pytest.mark.parametrize("name", LISTED)
def test_a_model_list_is_decoded(name):
    models = kind_of(name).listing.decode(read(name).response.body)

    assert [known(model) for model in models] == LISTED[name]


@pytest.mark.parametrize("folder", LLAMACPPS)
def test_the_properties_of_llamacpp_complete_its_model(folder):
    kind = kind_of(folder)
    models = kind.listing.decode(read(f"{folder}/models").response.body)

    for lookup in kind.lookups:
        models = lookup.decode(read(f"{folder}/props").response.body, models)

    assert [known(model) for model in models] == [TINY]


def test_what_ollama_shows_completes_its_model():
    kind = KINDS["ollama"]
    (lookup,) = kind.lookups
    shown = read("ollama-0.33/api-show")
    listed = kind.listing.decode(read("ollama-0.33/api-tags-old").response.body)

    (model,) = lookup.decode(shown.response.body, listed)

    assert known(model) == {
        "name": "tiny:latest",
        "context_length": 131072,
        **CAPABLE,
        "revision": "11" * 32,
    }
    assert json.loads(lookup.body("tiny:latest")) == json.loads(shown.sent)


def test_the_properties_of_a_router_describe_no_model():
    kind = KINDS["llamacpp"]
    (model,) = kind.listing.decode(read("llamacpp-b11549/models").response.body)

    described = kind.lookups[0].decode(read("llamacpp-b10434-router/props").response.body, (model,))

    assert described == (model,)


SERVERS = {
    "llamacpp-b10434": ServerFacts(version="b1-7e4c0a9", max_in_flight=2, has_one_model=True),
    "llamacpp-b10434-router": ServerFacts(version="b1-7e4c0a9", has_one_model=False, max_loaded=2),
    "llamacpp-b11549": ServerFacts(version="b0-unknown", max_in_flight=2, has_one_model=True),
    "vllm-0.32.0": ServerFacts(version="0.32.0", max_in_flight=2),
    "vllm-0.32.0-without-key": ServerFacts(version="0.32.0"),
}


@pytest.mark.parametrize("folder", SERVERS)
async def test_the_facts_of_a_server_are_decoded(folder):
    server = RecordedServer(folder)

    facts = ServerFacts()
    # A vLLM without VLLM_SERVER_DEV_MODE has no /server_info.
    for lookup in [each for each in kind_of(folder).server_lookups if server.has(each.path)]:
        facts = facts.completed_by(lookup.decode((await server.get(SERVER, lookup.path)).body))

    assert facts == SERVERS[folder]


# the load

BLANK = EngineReport(at=1.0, due_at=3.0)
VLLM_CACHE = {"cache_tokens": 1_048_576, "started_at": 1795974830.92}
REPORTED = {
    "llamacpp-b10434/metrics": {"running": 0, "waiting": 0, "served": 0.0},
    "llamacpp-b10434/metrics-busy": {"running": 2, "waiting": 3, "served": 1861.0},
    "llamacpp-b10434/slots": {"running": 0, "slots": 2},
    "llamacpp-b10434/slots-busy": {"running": 2, "slots": 2},
    "llamacpp-b11549/metrics": {"running": 0, "waiting": 0, "served": 0.0},
    "llamacpp-b11549/metrics-busy": {"running": 2, "waiting": 3, "served": 1861.0},
    "llamacpp-b11549/slots-busy": {"running": 2, "slots": 2},
    "llamacpp-b10434/props": {"loaded": {"tiny"}, "slots": 2},
    "llamacpp-b11549/props": {"loaded": {"tiny"}, "slots": 2},
    "llamacpp-b10434-sleeping/props": {"loaded": frozenset(), "slots": 2},
    "llamacpp-b11549-sleeping/props": {"loaded": frozenset(), "slots": 2},
    "llamacpp-b10434-router/all-models": {"loaded": frozenset()},
    "llamacpp-b10434-router/all-models-loading": {"loaded": {"other"}, "loading": {"big"}},
    "llamacpp-b10434-router/all-models-loaded": {"loaded": {"tiny"}},
    "llamacpp-b10434-router/all-models-evicted": {"loaded": {"big", "other"}},
    "ollama-0.33/api-ps-idle": {"loaded": frozenset()},
    "ollama-0.33/api-ps": {"loaded": {"tiny:latest", "other:1b"}},
    "vllm-0.32.0/metrics": {"running": 0, "waiting": 0, "kv_usage": 0.0, "served": 2928.0, **VLLM_CACHE},
    "vllm-0.32.0/metrics-busy": {"running": 2, "waiting": 3, "kv_usage": 0.0, "served": 4391.0, **VLLM_CACHE},
}


@pytest.mark.parametrize("name", REPORTED)
def test_the_load_of_an_engine_is_decoded(name):
    transcript = read(name)
    (lookup,) = [each for each in kind_of(name).load_lookups if each.path == transcript.path]

    report = lookup.decode(transcript.response.body, BLANK)

    assert replace(report, kv_usage=None if report.kv_usage is None else round(report.kv_usage, 2)) == replace(
        BLANK, **REPORTED[name]
    )


FIRST_PAGES = {
    "llamacpp-b10434": "/metrics",
    "llamacpp-b10434-with-key": "/props",
    "llamacpp-b10434-without-key": None,
    "llamacpp-b10434-router": "/models",
    "llamacpp-b11549": "/metrics",
    "llamacpp-b11549-with-key": "/props",
    "ollama-0.33": "/api/ps",
    "vllm-0.32.0": "/metrics",
}


@pytest.mark.parametrize("folder", FIRST_PAGES)
async def test_the_first_page_that_an_engine_has_is_chosen(folder):
    server, endpoints = RecordedServer(folder), Endpoints(kind_of(folder).load_lookups)

    while (lookup := endpoints.best(0.0)) is not None:
        response = await server.get(SERVER, lookup.path)
        with suppress(ValueError):
            if response.is_success and lookup.decode(response.body, BLANK):
                break
        assert response.is_success or response.status in ABSENT
        endpoints.skip(lookup, "", until=1.0)

    assert (lookup and lookup.path) == FIRST_PAGES[folder]


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("llamacpp-b10434/all-models", "/models"),
        ("llamacpp-b11549/props", "/metrics"),
        ("llamacpp-b10434-router/props", "/props"),
        ("vllm-0.32.0/version", "/metrics"),
        ("ollama-0.33/api-version", "/api/ps"),
    ],
)
def test_what_is_no_report_of_the_load_is_not_taken_for_one(name, page):
    (lookup,) = [each for each in kind_of(name).load_lookups if each.path == page]

    with pytest.raises(ValueError, match=r".+"):
        lookup.decode(read(name).response.body, BLANK)


@pytest.mark.parametrize("folder", LLAMACPPS)
def test_each_run_of_a_llamacpp_has_a_name(folder):
    # It is no Unix time: the server names with it the microseconds since its machine was started.
    metrics = KINDS["llamacpp"].load_lookups[0]
    runs = {read(f"{folder}/{name}").response.headers[metrics.run_header] for name in ("metrics", "metrics-busy")}

    assert len(runs) == 1


def test_a_router_is_not_asked_for_the_load_of_a_model_that_it_would_load():
    # The request loads the model, and another one leaves the memory for it.
    assert read("llamacpp-b10434-router/metrics-that-loads").response.status == 200
    assert not any("model=" in lookup.path for lookup in KINDS["llamacpp"].load_lookups)


# answers


def usages(folder, prompt, text):
    chats = ("chat", "chat-cached", "chat-stream", "responses", "messages", "messages-stream")
    return {f"{folder}/{name}": TokenUsage(prompt, 8) for name in chats} | {f"{folder}/completion": TokenUsage(text, 8)}


OLLAMA = "ollama-0.33"
OLLAMA_USED = {
    f"{OLLAMA}/{name}": TokenUsage(26, 3)
    for name in ("api-chat", "api-generate", "api-chat-stream", "api-chat-stream-loaded", "chat", "chat-stream")
}
USED = (
    OLLAMA_USED
    | usages("llamacpp-b10434", 908, 882)
    | usages("llamacpp-b11549", 908, 882)
    | usages("vllm-0.32.0", 205, 181)
)


@pytest.mark.parametrize("name", USED)
def test_the_usage_of_an_answer_is_read(name):
    transcript = read(name)

    assert usage_in(transcript, transcript.response.body) == USED[name]


UNUSED = {
    # The whole prompt was in its cache, so Ollama does not count it.
    f"{OLLAMA}/api-chat-stream-cached": TokenUsage(0, 3),
    f"{OLLAMA}/api-chat-load": TokenUsage(0, 0),
    f"{OLLAMA}/api-chat-unload": TokenUsage(0, 0),
}


@pytest.mark.parametrize("name", UNUSED)
def test_ollama_counts_no_tokens_that_it_did_not_work_on(name):
    transcript = read(name)

    assert wire_of(transcript)[1].usage_of(transcript.response.body.splitlines()[-1]) == UNUSED[name]


@pytest.mark.parametrize(
    ("name", "is_finished"), [(f"{OLLAMA}/api-chat-stream-error", False), ("vllm-0.32.0/chat-stream-broken", True)]
)
def test_an_error_in_a_stream_is_seen(name, is_finished):
    # vLLM marks the end of such a stream like any other, Ollama does not.
    transcript = read(name)
    endpoint, wire = wire_of(transcript)
    scan = wire.open_stream(endpoint)

    scan.feed(transcript.response.body)

    assert (scan.has_content, scan.has_error, scan.is_finished()) == (True, True, is_finished)


@pytest.mark.parametrize("name", [name for name in USED if "stream" not in name])
def test_a_document_is_complete_and_has_a_text(name):
    transcript = read(name)
    endpoint, wire = wire_of(transcript)

    assert wire.looks_complete(endpoint, transcript.response.body)
    assert wire.text_of(transcript.response.body)


@pytest.mark.parametrize("name", [name for name in USED if "stream" in name])
def test_a_stream_has_content_and_an_end(name):
    transcript = read(name)
    endpoint, wire = wire_of(transcript)
    scan = wire.open_stream(endpoint)

    passed = scan.feed(transcript.response.body)

    assert passed == transcript.response.body
    assert (scan.has_content, scan.has_error, scan.is_finished(), scan.closing()) == (True, False, True, b"")
    assert transcript.response.headers["content-type"].startswith(wire.stream_type)


BEYOND_CONTEXT = {
    **{f"{folder}/chat-too-long": ContextExceeded(2048) for folder in ENGINES},
    "vllm-0.32.0/chat-beyond-context": ContextExceeded(2048),
    "vllm-0.32.0/messages-beyond-context": ContextExceeded(2048),
    "vllm-0.32.0/chat-unknown-model": None,
    "vllm-0.32.0-with-key/chat-overloaded": None,
    "vllm-0.32.0-without-key/chat": None,
    "llamacpp-b10434-router/chat-unknown-model": None,
    "llamacpp-b10434-router/chat-evicted": None,
    "llamacpp-b10434/chat-loading": None,
    "llamacpp-b10434/embeddings": None,
}


@pytest.mark.parametrize("name", BEYOND_CONTEXT)
def test_an_error_about_the_context_is_recognised(name):
    response = read(name).response

    assert context_exceeded(response.status, response.body) == BEYOND_CONTEXT[name]


@pytest.mark.parametrize("folder", ENGINES)
def test_an_engine_refuses_beyond_the_context_where_its_kind_says_so(folder):
    # Nexus refuses such a request itself only where the engine would have refused it.
    for name in ("chat-beyond-context", "messages-beyond-context"):
        transcript = read(f"{folder}/{name}")
        refuses = wire_of(transcript)[0].name in kind_of(folder).refuses_beyond_context

        assert (transcript.response.status == 400) is refuses


LACKS_MODEL = {
    "vllm-0.32.0/chat-unknown-model": True,
    "ollama-0.33/api-chat-unknown-model": True,
    "ollama-0.33/chat-unknown-model": True,
    "ollama-0.33/api-show-unknown": True,
    "ollama-0.33/node-id": False,
    "llamacpp-b10434-router/chat-unknown-model": True,
    "llamacpp-b10434-router/metrics-without-autoload": False,
    "llamacpp-b10434-router/chat-evicted": False,
    "vllm-0.32.0/chat-too-long": False,
    # The path is missing, as the model makes no embeddings.
    "vllm-0.32.0/embeddings": False,
    "llamacpp-b10434/embeddings": False,
}


@pytest.mark.parametrize("name", LACKS_MODEL)
def test_an_error_about_a_missing_model_is_recognised(name):
    response = read(name).response

    assert names_missing_model(response.status, response.body) is LACKS_MODEL[name]


def test_a_router_that_swaps_models_is_not_blamed_for_it():
    # The model left the memory between the router's decision and its request; its next one loads it again.
    evicted = read("llamacpp-b10434-router/chat-evicted").response

    assert (evicted.status, KINDS["llamacpp"].has_unreliable_500) == (500, True)


@pytest.mark.parametrize("folder", ENGINES)
def test_an_engine_answers_to_any_model_where_its_kind_says_so(folder):
    unknown = read(f"{folder}/chat-unknown-model").response

    assert (unknown.status == 200) is kind_of(folder).answers_to_any_model
