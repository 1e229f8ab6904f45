"""Endpoints that only one engine has, such as ``/completion`` of llama.cpp and ``/generate`` of SGLang."""

from typing import Any

from nexus.simulator.call import Call, text_of, whole_number
from nexus.simulator.messages import Answer, Events, data_event, json_answer, sse_answer
from nexus.simulator.openai_tasks import input_texts, vector
from nexus.simulator.replies import Ask, Reply, count_tokens


async def completion(call: Call) -> Answer:
    """Answer llama.cpp's /completion and /infill."""
    body = call.json()
    prompt = text_of(body.get("prompt")) or text_of(body.get("input_prefix"))
    reply = call.compose(
        Ask(prompt=prompt, last_words=prompt, max_tokens=whole_number(body.get("n_predict"))), _own(call)
    )
    if body.get("stream"):
        return sse_answer(_completion_events(call, reply))
    return json_answer(_completed(call, reply, await call.generate_all(reply)))


def _own(call: Call) -> dict[str, Any]:
    """Return a body that names the server's own model."""
    return {"model": call.settings.catalogue[0].name}


async def _completion_events(call: Call, reply: Reply) -> Events:
    async for token in call.generate(reply):
        yield data_event({"index": 0, "content": token, "stop": False})
    yield data_event(_completed(call, reply, ""), "end")


def _completed(call: Call, reply: Reply, text: str) -> dict[str, Any]:
    counts = {"tokens_predicted": len(reply.tokens), "tokens_evaluated": reply.prompt_tokens}
    return {"index": 0, "content": text, "stop": True, "model": call.settings.catalogue[0].name} | counts


async def embedding(call: Call) -> Answer:
    """Answer llama.cpp's /embedding."""
    texts = input_texts(call.json().get("content"))
    await call.compute(sum(map(count_tokens, texts)))
    return json_answer([{"index": index, "embedding": [vector(text, 8)]} for index, text in enumerate(texts)])


async def apply_template(call: Call) -> Answer:
    """Answer llama.cpp's /apply-template."""
    rows = call.json().get("messages") or ()
    return json_answer({"prompt": "".join(f"<{row['role']}>{text_of(row.get('content'))}" for row in rows)})


async def generate(call: Call) -> Answer:
    """Answer SGLang's /generate."""
    body = call.json()
    prompt = text_of(body.get("text"))
    limit = whole_number((body.get("sampling_params") or {}).get("max_new_tokens"))
    reply = call.compose(Ask(prompt=prompt, last_words=prompt, max_tokens=limit), _own(call))
    return json_answer({"text": await call.generate_all(reply), "meta_info": {"id": call.id}})


async def pooling(call: Call) -> Answer:
    """Answer vLLM's /pooling and /classify."""
    body = call.json()
    model = call.model(body.get("model"))
    texts = input_texts(body.get("input"))
    await call.compute(sum(map(count_tokens, texts)))
    rows = [{"index": index, "object": "pooling", "data": vector(text, 8)} for index, text in enumerate(texts)]
    return json_answer({"id": f"pool-{call.id}", "object": "list", "model": model.name, "data": rows})


async def embed(call: Call) -> Answer:
    """Answer vLLM's /v2/embed, which follows Cohere's API."""
    body = call.json()
    call.model(body.get("model"))
    texts = input_texts(body.get("texts"))
    await call.compute(sum(map(count_tokens, texts)))
    return json_answer({"id": f"embed-{call.id}", "embeddings": {"float": [vector(text, 8) for text in texts]}})
