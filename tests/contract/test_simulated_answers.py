"""The simulator answers as the engines do of which there are transcripts, in all that is read of them."""

import json
import re

import pytest

from nexus.domain.engine_report import EngineReport
from nexus.fleet.fetching import Fetcher, Target
from nexus.simulator import Settings, SimulatedModel, Simulator
from nexus.simulator.errors import error_events
from tests.support.transcripts import all_in, kind_of, purposes, read, usage_in

BLANK = EngineReport(at=1.0, due_at=3.0)
_CHAT = ("id", "object", "created", "model", "choices.0.index", "choices.0.message.role", "choices.0.message.content")
_USAGE = ("usage.prompt_tokens", "usage.completion_tokens", "usage.total_tokens")
_CACHED = ("usage.prompt_tokens_details.cached_tokens",)
_TIMINGS = ("timings.cache_n", "timings.prompt_n", "timings.predicted_n")
_MESSAGE = ("id", "type", "role", "content.0.type", "content.0.text", "model", "stop_reason")
_RESPONSE = ("id", "object", "model", "status", "output.0.type", "output.0.content.0.text", "usage.input_tokens")
_ERROR = ("error.message", "error.type", "error.code")
_ROW = ("object", "data.0.id", "data.0.object", "data.0.created", "data.0.owned_by")
_TAG = ("models.0.name", "models.0.model", "models.0.size", "models.0.digest", "models.0.details.family")
_DURATIONS = ("total_duration", "load_duration", "prompt_eval_count", "eval_count")
READ = {
    "llamacpp": {
        "health": ("status",),
        "models": (*_ROW, "data.0.aliases.0", "data.0.meta.n_ctx", "data.0.meta.n_ctx_train", "models.0.name"),
        "all-models": (*_ROW, "data.0.aliases.0", "data.0.meta.n_ctx"),
        "props": (
            "default_generation_settings.n_ctx",
            "total_slots",
            "model_alias",
            "model_path",
            "modalities.vision",
            "chat_template_caps.supports_tools",
            "build_info",
            "is_sleeping",
        ),
        "slots": ("0.id", "0.n_ctx", "0.is_processing", "1.id"),
        "chat": (*_CHAT, "choices.0.finish_reason", *_USAGE, *_CACHED, *_TIMINGS),
        "completion": ("id", "object", "choices.0.text", *_USAGE),
        "responses": (*_RESPONSE, "usage.output_tokens"),
        "messages": (*_MESSAGE, "usage.input_tokens", "usage.output_tokens", "usage.cache_read_input_tokens"),
        "chat-too-long": (*_ERROR, "error.n_prompt_tokens", "error.n_ctx"),
        "api-version": _ERROR,
    },
    "router": {
        "all-models": (*_ROW[:3], "data.0.status.value", "data.0.status.args.0"),
        "props": ("role", "max_instances", "model_alias", "default_generation_settings.n_ctx"),
        "chat-unknown-model": _ERROR,
    },
    "ollama": {
        "api-version": ("version",),
        "models": _ROW,
        "api-tags": _TAG,
        "api-ps": (*_TAG[:4], "models.0.expires_at", "models.0.size_vram", "models.0.context_length"),
        "api-show": ("capabilities.0", "details.family", "model_info"),
        "api-show-unknown": ("error",),
        "api-chat": ("model", "created_at", "message.role", "message.content", "done", "done_reason", *_DURATIONS),
        "api-generate": ("model", "response", "done", "done_reason", *_DURATIONS),
        "api-embed": ("model", "embeddings.0.0", "load_duration", "prompt_eval_count"),
        "api-chat-load": ("model", "message.content", "done", "done_reason"),
        "api-chat-unload": ("model", "message.content", "done", "done_reason"),
        "api-chat-unknown-model": ("error",),
        "chat": (*_CHAT, "choices.0.finish_reason", "system_fingerprint", *_USAGE),
        "chat-unknown-model": _ERROR,
    },
    "vllm": {
        "models": (*_ROW, "data.0.root", "data.0.parent", "data.0.max_model_len"),
        "version": ("version",),
        "load": ("server_load",),
        "chat": (*_CHAT, "choices.0.finish_reason", *_USAGE, *_CACHED),
        "completion": ("id", "object", "choices.0.text", *_USAGE),
        "responses": (*_RESPONSE, "usage.output_tokens"),
        "messages": (*_MESSAGE, "usage.input_tokens", "usage.output_tokens", "usage.cache_read_input_tokens"),
        "chat-unknown-model": (*_ERROR, "error.param"),
        "chat-too-long": _ERROR,
        "api-version": ("detail",),
    },
}
"""Members that Nexus or the client libraries read."""

OF_SIMULATED = {
    "llamacpp": "llamacpp-b11549",
    "router": "llamacpp-b10434-router",
    "ollama": "ollama-0.33",
    "vllm": "vllm-0.32.0",
}
MODEL = SimulatedModel("tiny", context_length=2048, capabilities=("completion",), aliases=("tiny",))
SIMULATED = {
    "llamacpp": Settings(kind="llamacpp", models=(MODEL,), concurrency=2, answer_tokens=8, cache_tokens=4096),
    "router": Settings(
        kind="llamacpp",
        models=tuple(SimulatedModel(name, context_length=2048, status="unloaded") for name in ("big", "other", "tiny")),
        concurrency=2,
    ),
    "ollama": Settings(
        kind="ollama", models=(SimulatedModel("tiny:latest"), SimulatedModel("embed", capabilities=("embedding",)))
    ),
    "vllm": Settings(kind="vllm", models=(MODEL,), concurrency=2, answer_tokens=8, cache_tokens=4096),
}


@pytest.mark.parametrize(("which", "name"), [(which, name) for which, names in READ.items() for name in names])
async def test_the_simulator_has_the_members_that_are_read(which, name):
    real = read(f"{OF_SIMULATED[which]}/{name}")
    simulated = await ask_simulator(SIMULATED[which], real)

    assert simulated.status == real.response.status
    for member in READ[which][name]:
        types = [type(at(document, member)) for document in (real.json, json.loads(simulated.body))]
        assert types[0] is types[1], member


def at(document, member):
    """Return the value at a dotted path; a missing one fails."""
    for step in member.split("."):
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


async def ask_simulator(settings, transcript):
    async with Simulator(settings) as simulator:
        return await ask(simulator, transcript)


async def ask(simulator, transcript):
    async with Fetcher(timeout_s=5) as fetcher:
        target = Target(simulator.url)
        if transcript.method == "POST":
            return await fetcher.post(target, transcript.path, transcript.sent)
        return await fetcher.get(target, transcript.path)


@pytest.mark.parametrize("name", ["chat-cached", "messages", "messages-stream", "responses"])
@pytest.mark.parametrize("kind", ["llamacpp", "vllm"])
async def test_a_simulated_prompt_counts_in_full_though_it_is_cached(kind, name):
    real = read(f"{OF_SIMULATED[kind]}/{name}")

    async with Simulator(SIMULATED[kind]) as simulator:
        first, second = [await ask(simulator, real) for _ in range(2)]

    assert [CACHED.search(response.body) is not None for response in (first, second, real.response)] == [0, 1, 1]
    assert usage_in(real, first.body) == usage_in(real, second.body)


CACHED = re.compile(rb"cache[a-z_]*tokens\": ?[1-9]")


STREAMS = [
    *((kind, name) for kind in ("llamacpp", "vllm") for name in ("chat-stream", "messages-stream")),
    ("ollama", "api-chat-stream"),
]


@pytest.mark.parametrize(("kind", "name"), STREAMS)
async def test_a_simulated_stream_has_the_events_of_a_real_one(kind, name):
    real = read(f"{OF_SIMULATED[kind]}/{name}")

    simulated = await ask_simulator(SIMULATED[kind], real)

    assert shape(real, simulated.body) == shape(real, real.response.body)


def shape(transcript, body):
    """Return each purpose that events have with each name, in order: tokens that are empty tell nothing."""
    return list(dict.fromkeys(purposes(transcript, body)))


METRICS = {"llamacpp": "llamacpp:", "vllm": "vllm:"}


@pytest.mark.parametrize("kind", METRICS)
async def test_each_simulated_metric_exists_in_the_real_engine(kind):
    real = read(f"{OF_SIMULATED[kind]}/metrics")

    simulated = await ask_simulator(SIMULATED[kind], real)

    assert samples(simulated.body) <= samples(real.response.body)


def samples(exposition):
    """Return the names of all samples with their label names."""
    lines = [line for line in exposition.decode().splitlines() if line and not line.startswith("#")]
    heads = [line.rpartition(" ")[0].partition("{") for line in lines]
    return {(name, frozenset(part.partition("=")[0] for part in labels[:-1].split('",'))) for name, _, labels in heads}


@pytest.mark.parametrize("kind", ["llamacpp", "router", "ollama", "vllm"])
async def test_a_simulated_engine_has_all_that_is_read_of_the_real_one(kind):
    for lookup in kind_of(OF_SIMULATED[kind]).load_lookups:
        real = next(each for each in all_in(OF_SIMULATED[kind]) if each.path == lookup.path)
        simulated = await ask_simulator(SIMULATED[kind], real)

        assert simulated.status == real.response.status
        assert shown(lookup, simulated) == shown(lookup, real.response)


def shown(lookup, response):
    """Return the figures in a report, the header that names the run of the server included."""
    try:
        report = lookup.decode(response.body, BLANK) if response.is_success else BLANK
    except ValueError:
        return None
    figures = {name for name in EngineReport.__struct_fields__ if getattr(report, name) != getattr(BLANK, name)}
    return figures | ({lookup.run_header} & set(map(str, response.headers)))


def test_the_simulator_breaks_a_stream_as_vllm_does():
    real = read("vllm-0.32.0/chat-stream-broken")

    simulated = b"".join(event.wire for event in error_events("vllm", real.path))

    assert purposes(real, simulated) == purposes(real, real.response.body)[-2:]
