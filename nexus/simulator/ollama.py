"""Ollama's API: chat, generate, embeddings and models."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from nexus.simulator.blocks import CallTool, Say, Spoken, Think
from nexus.simulator.call import CREATED_RFC3339, Call, conversation, count_images, tools_of, whole_number
from nexus.simulator.messages import Answer, Events, json_answer, line_event, ndjson_answer, text_answer
from nexus.simulator.openai_tasks import input_texts, vector
from nexus.simulator.replies import Ask, Reply, Tool, count_tokens
from nexus.simulator.settings import SimulatedModel
from nexus.simulator.strictness import check_ollama

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
    if call.settings.is_strict:
        check_ollama(body, model)
    prompt, last_words = conversation(body["messages"])
    ask = msgspec.structs.replace(
        _ask(body, prompt, last_words, tools_of(body.get("tools"))),
        images=count_images(body["messages"]),
        has_result=body["messages"][-1].get("role") == "tool",
    )
    return await _answer(call, body, ask, _message)


async def generate(call: Call) -> Answer:
    body = call.json()
    model = call.model(body.get("model"), "completion")
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        return await _load(call, body, model, {"response": ""})
    if call.settings.is_strict:
        check_ollama(body, model)
    return await _answer(call, body, _ask(body, prompt, prompt, ()), _response)


def _ask(body: Mapping[str, Any], prompt: str, last_words: str, tools: tuple[Tool, ...]) -> Ask:
    wanted = body.get("format") or None
    return Ask(
        prompt=prompt,
        last_words=last_words,
        images=len(body.get("images") or ()),
        max_tokens=whole_number((body.get("options") or {}).get("num_predict")),
        tools=tools,
        thinks=body.get("think") is not False,
        schema={} if wanted == "json" else wanted,
    )


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


Wrap = Callable[[str, str, list[Any]], dict[str, Any]]
"""Makes the content of an answer, or of a line of it, from text, thoughts and calls of tools."""


def _message(text: str, thoughts: str, calls: list[Any]) -> dict[str, Any]:
    more = ({"thinking": thoughts} if thoughts else {}) | ({"tool_calls": calls} if calls else {})
    return {"message": {"role": "assistant", "content": text, **more}}


def _response(text: str, thoughts: str, calls: list[Any]) -> dict[str, Any]:
    del calls
    return {"response": text, **({"thinking": thoughts} if thoughts else {})}


def _calls(reply: Reply) -> list[Any]:
    """Return the calls of tools, but those that were cut off, which Ollama cannot parse."""
    whole = [spoken for spoken in reply.calls if spoken.is_whole]
    return [_called(index, spoken) for index, spoken in enumerate(whole)]


def _called(index: int, spoken: Spoken) -> dict[str, Any]:
    name = spoken.block.name if isinstance(spoken.block, CallTool) else ""
    return {"function": {"index": index, "name": name, "arguments": msgspec.Raw(spoken.text.encode())}}


def _text(reply: Reply, kind: type[Say | Think]) -> str:
    return "".join(spoken.text for spoken in reply.blocks if isinstance(spoken.block, kind))


async def _answer(call: Call, body: Mapping[str, Any], ask: Ask, wrap: Wrap) -> Answer:
    reply = call.compose(ask, body)
    if body.get("stream", True):
        return ndjson_answer(_lines(call, body, reply, wrap))
    await call.generate_all(reply)
    content = wrap(_text(reply, Say), _text(reply, Think), _calls(reply))
    return json_answer(_head(call, body) | content | _summary(call, reply))


async def _lines(call: Call, body: Mapping[str, Any], reply: Reply, wrap: Wrap) -> Events:
    head = _head(call, body)
    sent: Counter[int] = Counter()
    calls = 0
    async for number, spoken, token in call.generate_blocks(reply):
        sent[number] += 1
        if isinstance(spoken.block, Think):
            yield line_event(head | wrap("", token, []) | {"done": False})
        elif isinstance(spoken.block, Say):
            yield line_event(head | wrap(token, "", []) | {"done": False})
        elif spoken.is_whole and sent[number] == len(spoken.tokens):
            # Ollama sends a tool call in one line.
            yield line_event(head | wrap("", "", [_called(calls, spoken)]) | {"done": False})
            calls += 1
    yield line_event(head | wrap("", "", []) | _summary(call, reply), "end")


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
