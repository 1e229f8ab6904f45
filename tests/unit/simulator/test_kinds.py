"""Each kind has the marks by which it is told apart, and the habits that surprise proxies."""

import asyncio
import json
import time

import pytest

from nexus.simulator.dialects import DIALECTS
from nexus.simulator.errors import OPENAI_ERRORS
from nexus.simulator.kinds import KINDS

CHAT = json.dumps({"model": "llama3", "messages": [{"role": "user", "content": "hi"}]}).encode()
STREAMED_CHAT = json.dumps(
    {"model": "llama3", "messages": [{"role": "user", "content": "hi"}], "stream": True}
).encode()
UNKNOWN = json.dumps({"model": "nope", "messages": [{"role": "user", "content": "hi"}]}).encode()


def test_each_kind_has_routes_habits_and_errors():
    assert KINDS.keys() == DIALECTS.keys() == OPENAI_ERRORS.keys()


@pytest.mark.parametrize(
    ("kind", "path", "mark"),
    [
        ("ollama", "/", b"Ollama is running"),
        ("ollama", "/api/version", b'"version"'),
        ("vllm", "/version", b'"version"'),
        ("vllm", "/v1/models", b'"owned_by":"vllm"'),
        ("vllm", "/v1/models", b'"max_model_len":8192'),
        ("vllm", "/metrics", b"vllm:num_requests_running"),
        ("llamacpp", "/props", b'"build_info"'),
        ("llamacpp", "/v1/models", b'"n_ctx":8192'),
        ("llamacpp", "/slots", b'"is_processing":false'),
        ("llamacpp", "/metrics", b"llamacpp:requests_processing"),
        ("sglang", "/model_info", b'"model_path"'),
        ("sglang", "/", b"SGLang is running"),
        ("sglang", "/metrics", b"sglang:num_running_reqs"),
        ("lmstudio", "/api/v1/models", b'"loaded_instances"'),
        ("lmstudio", "/api/v0/models", b'"state":"loaded"'),
    ],
)
async def test_a_kind_is_known_by_its_marks(simulate, connect, kind, path, mark):
    wire = await connect(await simulate(kind=kind))

    await wire.ask(path, method="GET")
    head, body = await wire.answer()

    assert head.startswith(b"HTTP/1.1 200 OK")
    assert mark in body


@pytest.mark.parametrize(
    ("kind", "status", "body"),
    [
        ("ollama", 404, b"404 page not found"),
        ("vllm", 404, b'{"detail":"Not Found"}'),
        ("llamacpp", 404, b'{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}'),
        ("lmstudio", 200, b'{"error":"Unexpected endpoint or method. (GET /nowhere)"}'),
    ],
)
async def test_a_path_that_is_not_there_is_refused_in_the_kinds_own_way(simulate, connect, kind, status, body):
    wire = await connect(await simulate(kind=kind))

    await wire.ask("/nowhere", method="GET")

    head, said = await wire.answer()
    assert (int(head.split()[1]), said) == (status, body)


async def test_a_path_that_a_server_lacks_is_unknown_to_it(simulate, connect):
    wire = await connect(await simulate(missing_paths=("/v1/responses",)))

    await wire.ask("/v1/responses", CHAT)

    assert (await wire.answer())[0].startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize(
    ("kind", "path", "status", "said"),
    [
        ("vllm", "/v1/chat/completions", 404, {"type": "NotFoundError", "code": 404, "param": "model"}),
        ("ollama", "/v1/chat/completions", 404, {"type": "not_found_error", "message": "model 'nope' not found"}),
        ("generic", "/v1/chat/completions", 404, {"code": "model_not_found", "type": "invalid_request_error"}),
    ],
)
async def test_a_model_that_is_not_there_is_refused_in_the_kinds_own_way(simulate, connect, kind, path, status, said):
    wire = await connect(await simulate(kind=kind))

    await wire.ask(path, UNKNOWN)

    head, body = await wire.answer()
    assert int(head.split()[1]) == status
    assert json.loads(body)["error"].items() >= said.items()


async def test_sglang_says_its_errors_flat(simulate, connect):
    wire = await connect(await simulate(kind="sglang"))

    await wire.ask("/v1/chat/completions", UNKNOWN)

    _, body = await wire.answer()
    assert json.loads(body).items() >= {"object": "error", "code": 404}.items()


async def test_llamacpp_answers_to_any_model_name(simulate, connect):
    wire = await connect(await simulate(kind="llamacpp"))

    await wire.ask("/v1/chat/completions", UNKNOWN)

    head, body = await wire.answer()
    assert b"Server: llama.cpp" in head
    assert json.loads(body)["model"] == "llama3"


async def test_llamacpp_closes_after_a_stream_without_saying_so(simulate, connect):
    wire = await connect(await simulate(kind="llamacpp"))

    await wire.ask("/v1/chat/completions", STREAMED_CHAT)
    stream = await wire.rest()

    assert stream.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert b"Keep-Alive: timeout=5" in stream
    assert b"Connection: close" not in stream


async def test_other_kinds_keep_the_connection_after_a_stream(simulate, connect):
    simulator = await simulate(kind="vllm")
    wire = await connect(simulator)

    for _ in range(2):
        await wire.ask("/v1/chat/completions", STREAMED_CHAT)
        await wire.reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n")

    assert len({record.connection for record in simulator.requests}) == 1


async def test_vllm_sends_the_head_before_a_slot_is_free_and_llamacpp_after(simulate, connect):
    heads = {}
    for kind in ("vllm", "llamacpp"):
        simulator = await simulate(kind=kind, concurrency=1, ttft_s=0.4)
        first, second = await connect(simulator), await connect(simulator)
        began = time.monotonic()
        await first.ask("/v1/chat/completions", STREAMED_CHAT)
        await asyncio.sleep(0.02)
        await second.ask("/v1/chat/completions", STREAMED_CHAT)
        await second.head()
        heads[kind] = time.monotonic() - began

    assert heads["vllm"] < 0.4
    assert heads["llamacpp"] >= 0.4


async def test_ollama_sends_nothing_before_the_first_token(simulate, connect):
    simulator = await simulate(kind="ollama", ttft_s=0.1)
    wire = await connect(simulator)

    began = time.monotonic()
    await wire.ask("/api/chat", CHAT)
    await wire.head()

    assert time.monotonic() - began >= 0.1


async def test_ollama_refuses_a_foreign_host(simulate, connect):
    simulator = await simulate(kind="ollama")
    wire = await connect(simulator)

    wire.writer.write(b"GET /api/version HTTP/1.1\r\nHost: proxy.example.com\r\n\r\n")

    assert (await wire.answer())[0].startswith(b"HTTP/1.1 403 ")


async def test_vllm_guards_only_its_api(simulate, connect):
    wire = await connect(await simulate(kind="vllm", api_key="secret"))

    await wire.ask("/metrics", method="GET")
    metrics, _ = await wire.answer()
    await wire.ask("/v1/models", method="GET")
    models, said = await wire.answer()

    assert metrics.startswith(b"HTTP/1.1 200")
    assert models.startswith(b"HTTP/1.1 401")
    assert said == b'{"error":"Unauthorized"}'


async def test_vllm_takes_the_request_id_for_its_own(simulate, connect):
    wire = await connect(await simulate(kind="vllm"))

    await wire.ask("/v1/chat/completions", CHAT, headers="X-Request-Id: abc\r\n")

    _, body = await wire.answer()
    assert json.loads(body)["id"] == "chatcmpl-abc"


async def test_tokens_can_be_turned_back_into_text(simulate, connect):
    wire = await connect(await simulate(kind="vllm"))

    await wire.ask("/tokenize", json.dumps({"model": "llama3", "prompt": "Grüße, 世界"}).encode())
    tokens = json.loads((await wire.answer())[1])["tokens"]
    await wire.ask("/detokenize", json.dumps({"model": "llama3", "tokens": tokens}).encode())

    assert json.loads((await wire.answer())[1]) == {"prompt": "Grüße, 世界"}


async def test_documents_are_ranked_and_scored_by_common_words(simulate, connect):
    wire = await connect(await simulate(kind="vllm"))
    documents = ["a dog", "the red fox", "red"]

    await wire.ask("/v1/rerank", json.dumps({"model": "llama3", "query": "red fox", "documents": documents}).encode())
    ranked = json.loads((await wire.answer())[1])["results"]
    await wire.ask("/v1/score", json.dumps({"model": "llama3", "text_1": "a b", "text_2": ["a b", "c"]}).encode())
    scored = json.loads((await wire.answer())[1])["data"]

    assert [row["index"] for row in ranked] == [1, 2, 0]
    assert [row["score"] for row in scored] == [1.0, 0.0]
