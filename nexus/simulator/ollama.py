"""Ollama's API: chat, generate, embeddings and models."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from nexus.simulator.call import CREATED_RFC3339, Call, conversation, first_tool, whole_number
from nexus.simulator.messages import Answer, Events, json_answer, line_event, ndjson_answer, text_answer
from nexus.simulator.openai_tasks import input_texts, vector
from nexus.simulator.replies import Ask, Reply, Tool, count_tokens
from nexus.simulator.settings import SimulatedModel

VERSION: Final = "0.33.0"
ARCHITECTURE: Final = "llama"
MODEL_BYTES: Final = 4_000_000_000
NANOSECONDS: Final = 1_000_000_000


async def root(call: Call) -> Answer:
    return text_answer("SGLang is running" if call.dialect.name == "sglang" else "Ollama is running")


async def version(call: Call) -> Answer:
    del call
    return json_answer({"version": VERSION})


async def tags(call: Call) -> Answer:
    return json_answer({"models": [_tag(call, model) for model in call.settings.catalogue]})


async def ps(call: Call) -> Answer:
    memory = call.engine.memory
    # Ollama enters a model before it waits for the load.
    there = {*memory.loaded, memory.loading}
    return json_answer(
        {
            "models": [
                _tag(call, model)
                | {"expires_at": CREATED_RFC3339, "size_vram": MODEL_BYTES, "context_length": model.context_length}
                for model in call.settings.catalogue
                if model.name in there
            ]
        }
    )


async def show(call: Call) -> Answer:
    body = call.json()
    model = call.model(body.get("model") or body.get("name"))
    facts = {
        "general.architecture": ARCHITECTURE,
        f"{ARCHITECTURE}.context_length": model.context_length,
        f"{ARCHITECTURE}.embedding_length": model.embedding_length,
    }
    texts = {"license": "", "modelfile": f"FROM {model.name}", "parameters": "", "template": "{{ .Prompt }}"}
    shown = {"details": _details(), "model_info": facts, "capabilities": model.capabilities}
    return json_answer(texts | shown | _remote(model) | {"modified_at": CREATED_RFC3339})


def _tag(call: Call, model: SimulatedModel) -> dict[str, Any]:
    name = call.listed_name(model)
    digest = hashlib.sha256(name.encode()).hexdigest()
    head = {"name": name, "model": name, "modified_at": CREATED_RFC3339, "size": MODEL_BYTES, "digest": digest}
    return head | _remote(model) | {"details": _details()}


def _remote(model: SimulatedModel) -> dict[str, Any]:
    return {"remote_host": model.remote_host, "remote_model": model.name} if model.remote_host else {}


def _details() -> Mapping[str, Any]:
    families = {"family": ARCHITECTURE, "families": [ARCHITECTURE]}
    return {"parent_model": "", "format": "gguf", **families, "parameter_size": "8B", "quantization_level": "Q4_K_M"}


async def chat(call: Call) -> Answer:
    body = call.json()
    model = call.model(body.get("model"), "completion")
    if not body.get("messages"):
        return await _load(call, body, model, {"message": {"role": "assistant", "content": ""}})
    prompt, last_words = conversation(body["messages"])
    ask = _ask(body, prompt, last_words, _wanted_tool(body))
    return await _answer(call, body, ask, _message)


async def generate(call: Call) -> Answer:
    body = call.json()
    model = call.model(body.get("model"), "completion")
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        return await _load(call, body, model, {"response": ""})
    return await _answer(call, body, _ask(body, prompt, prompt, None), _response)


def _wanted_tool(body: Mapping[str, Any]) -> Tool | None:
    return None if body["messages"][-1].get("role") == "tool" else first_tool(body.get("tools"))


def _ask(body: Mapping[str, Any], prompt: str, last_words: str, tool: Tool | None) -> Ask:
    wanted = body.get("format") or None
    schema = {} if wanted == "json" else wanted
    limit = whole_number((body.get("options") or {}).get("num_predict"))
    return Ask(prompt=prompt, last_words=last_words, max_tokens=limit, tool=tool, schema=schema)


async def _load(call: Call, body: Mapping[str, Any], model: SimulatedModel, empty: dict[str, Any]) -> Answer:
    """Answer a request without a prompt, which loads the model, or unloads it if ``keep_alive`` is zero."""
    does_unload = body.get("keep_alive") in {0, "0", "0s"}
    if does_unload:
        call.engine.memory.unload(model.name)
    elif call.turn is not None:
        await call.turn.start()
    return json_answer(_head(call, body) | empty | {"done": True, "done_reason": "unload" if does_unload else "load"})


def _head(call: Call, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": call.model_name(body), "created_at": CREATED_RFC3339}


def _message(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}}


def _response(text: str) -> dict[str, Any]:
    return {"response": text}


def _tool_call(tool: Tool, arguments: str) -> dict[str, Any]:
    called = {"function": {"index": 0, "name": tool.name, "arguments": msgspec.json.decode(arguments)}}
    return {"message": {"role": "assistant", "content": "", "tool_calls": [called]}}


async def _answer(call: Call, body: Mapping[str, Any], ask: Ask, wrap: Callable[[str], dict[str, Any]]) -> Answer:
    reply = call.compose(ask, body)
    if body.get("stream", True):
        return ndjson_answer(_lines(call, body, reply, wrap))
    text = await call.generate_all(reply)
    content = _tool_call(reply.tool, text) if reply.tool else wrap(text)
    return json_answer(_head(call, body) | content | _summary(call, reply))


async def _lines(call: Call, body: Mapping[str, Any], reply: Reply, wrap: Callable[[str], dict[str, Any]]) -> Events:
    head = _head(call, body)
    async for token in call.generate(reply):
        if reply.tool is None:
            yield line_event(head | wrap(token) | {"done": False})
    if reply.tool is not None:
        # Ollama sends a tool call in one line.
        yield line_event(head | _tool_call(reply.tool, reply.text) | {"done": False})
    yield line_event(head | wrap("") | _summary(call, reply), "end")


def _summary(call: Call, reply: Reply) -> dict[str, Any]:
    prompt_ns, answer_ns = _durations_ns(call, len(reply.tokens))
    load_ns = _load_ns(call)
    return {
        "done": True,
        "done_reason": "length" if reply.finish == "length" else "stop",
        "total_duration": load_ns + prompt_ns + answer_ns,
        "load_duration": load_ns,
        "prompt_eval_count": reply.prompt_tokens,
        "prompt_eval_duration": prompt_ns,
        "eval_count": len(reply.tokens),
        "eval_duration": answer_ns,
    }


def _durations_ns(call: Call, tokens: int) -> tuple[int, int]:
    settings = call.settings
    answer_s = tokens / settings.tokens_per_s if settings.tokens_per_s else 0.0
    return int(settings.ttft_s * NANOSECONDS), int(answer_s * NANOSECONDS)


def _load_ns(call: Call) -> int:
    return int(call.turn.load_s * NANOSECONDS) if call.turn is not None else 0


async def embed(call: Call) -> Answer:
    body = call.json()
    model = call.model(body.get("model"), "embedding")
    texts = input_texts(body.get("input"))
    prompt_tokens = sum(count_tokens(text) for text in texts)
    await call.compute(prompt_tokens)
    length = body.get("dimensions") or model.embedding_length
    vectors = [vector(text, length) for text in texts]
    counts = {"total_duration": 0, "load_duration": _load_ns(call), "prompt_eval_count": prompt_tokens}
    return json_answer({"model": call.model_name(body), "embeddings": vectors} | counts)


async def embeddings(call: Call) -> Answer:
    """Answer the older endpoint, which takes one prompt."""
    body = call.json()
    model = call.model(body.get("model"), "embedding")
    prompt = str(body.get("prompt", ""))
    await call.compute(count_tokens(prompt))
    return json_answer({"embedding": vector(prompt, model.embedding_length)})
