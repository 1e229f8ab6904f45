"""Endpoints of the OpenAI API for embeddings, reranking, tokens, speech, images and models."""

import hashlib
from array import array
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final

from nexus.simulator.call import CREATED, Call, text_of
from nexus.simulator.messages import Answer, Event, Events, json_answer, named_event, sse_answer, text_answer
from nexus.simulator.multipart import form_fields
from nexus.simulator.refusals import Refusal
from nexus.simulator.replies import count_tokens, detokenize, tokenize

PICTURE: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""A PNG of one pixel."""
SPEECH_PIECES: Final = 8
SPEECH_PIECE_BYTES: Final = 512


def vector(text: str, length: int) -> list[float]:
    """Return a deterministic embedding of *text*, exact in 32-bit floats."""
    digest = hashlib.shake_256(text.encode()).digest(length)
    return [(byte - 128) / 128 for byte in digest]


async def embeddings(call: Call) -> Answer:
    body = call.json()
    model = call.model(body.get("model"), "embedding")
    texts = input_texts(body.get("input"))
    prompt_tokens = sum(count_tokens(text) for text in texts)
    await call.compute(prompt_tokens)
    length = body.get("dimensions") or model.embedding_length
    encode = _base64 if body.get("encoding_format") == "base64" else list
    rows = [
        {"object": "embedding", "index": index, "embedding": encode(vector(text, length))}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return json_answer({"object": "list", "data": rows, "model": call.model_name(body), "usage": usage})


def input_texts(given: Any) -> list[str]:
    """Return the texts to embed; token ids, which some clients send, are taken as text."""
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        raise Refusal("invalid", detail="input is required")
    if all(isinstance(item, int) for item in given):
        return [str(given)]
    return [item if isinstance(item, str) else str(item) for item in given]


def _base64(numbers: Sequence[float]) -> str:
    return b64encode(array("f", numbers).tobytes()).decode()


async def rerank(call: Call) -> Answer:
    body = call.json()
    call.model(body.get("model"))
    query, documents = str(body.get("query", "")), [text_of(text) for text in body.get("documents") or ()]
    await call.compute(count_tokens(query))
    scores = [(similarity(query, text), -index) for index, text in enumerate(documents)]
    ranked = sorted(scores, reverse=True)[: body.get("top_n") or None]
    rows = [
        {"index": -index, "document": {"text": documents[-index]}, "relevance_score": score} for score, index in ranked
    ]
    head = {"id": f"rerank-{call.id}", "model": call.model_name(body)}
    return json_answer(head | {"usage": {"total_tokens": count_tokens(query)}, "results": rows})


async def score(call: Call) -> Answer:
    body = call.json()
    call.model(body.get("model"))
    one, others = text_of(body.get("text_1")), body.get("text_2")
    texts = others if isinstance(others, list) else [others]
    await call.compute(count_tokens(one))
    rows = [
        {"index": index, "object": "score", "score": similarity(one, text_of(text))} for index, text in enumerate(texts)
    ]
    head = {"id": f"score-{call.id}", "object": "list", "created": CREATED, "model": call.model_name(body)}
    return json_answer(head | {"data": rows, "usage": {"total_tokens": count_tokens(one)}})


def similarity(one: str, other: str) -> float:
    """Return the share of words that the texts have in common."""
    words, others = set(one.lower().split()), set(other.lower().split())
    return len(words & others) / len(words | others) if words | others else 0.0


async def tokens_of_text(call: Call) -> Answer:
    body = call.json()
    if call.dialect.name == "llamacpp":
        return json_answer({"tokens": tokenize(text_of(body.get("content")))})
    model = call.model(body.get("model"))
    text = text_of(body.get("prompt")) or "\n".join(text_of(row.get("content")) for row in body.get("messages") or ())
    tokens = tokenize(text)
    return json_answer({"count": len(tokens), "max_model_len": model.context_length, "tokens": tokens})


async def text_of_tokens(call: Call) -> Answer:
    body = call.json()
    tokens = body.get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, int) and token >= 0 for token in tokens):
        raise Refusal("invalid", detail="tokens must be a list of token ids")
    key = "content" if call.dialect.name == "llamacpp" else "prompt"
    return json_answer({key: detokenize(tokens)})


async def transcriptions(call: Call) -> Answer:
    fields = form_fields(call.request)
    call.model(fields.get("model", b"").decode(errors="replace"))
    sound = fields.get("file")
    if sound is None:
        raise Refusal("invalid", detail="file is required")
    await call.compute(0)
    text = f"{call.settings.name}: heard {len(sound)} bytes"
    if fields.get("response_format") == b"text":
        return text_answer(text)
    return json_answer({"text": text})


async def speech(call: Call) -> Answer:
    body = call.json()
    call.model(body.get("model"))
    text = text_of(body.get("input"))
    await call.compute(count_tokens(text))
    return Answer(_sound(f"{call.settings.name}: {text}"), content_type="audio/mpeg")


async def _sound(text: str) -> Events:
    # All byte values occur, so that decoding it as text is noticed.
    noise = hashlib.shake_256(text.encode()).digest(SPEECH_PIECES * SPEECH_PIECE_BYTES)
    for start in range(0, len(noise), SPEECH_PIECE_BYTES):
        yield Event(noise[start : start + SPEECH_PIECE_BYTES])


async def images(call: Call) -> Answer:
    body = call.json()
    call.model(body.get("model"))
    prompt = text_of(body.get("prompt"))
    await call.compute(count_tokens(prompt))
    if body.get("stream"):
        return sse_answer(_picture_events(call.settings.picture_bytes))
    picture = {"b64_json": _picture(call.settings.picture_bytes), "revised_prompt": f"{call.settings.name}: {prompt}"}
    return json_answer({"created": CREATED, "data": [picture] * (body.get("n") or 1)})


def _picture(size_bytes: int) -> str:
    # A larger picture is all zero bytes, which base64 writes as A.
    return PICTURE if size_bytes <= len(PICTURE) else "A" * (size_bytes // 4 * 4)


async def _picture_events(size_bytes: int) -> Events:
    partial = {"type": "image_generation.partial_image", "partial_image_index": 0, "b64_json": PICTURE}
    yield named_event({**partial, "created_at": CREATED}, "start")
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    whole = {"type": "image_generation.completed", "created_at": CREATED, "b64_json": _picture(size_bytes)}
    yield named_event({**whole, "usage": usage}, "end")


async def models(call: Call) -> Answer:
    rows = [model_row(call, position) for position in range(len(call.settings.catalogue))]
    return json_answer({"object": "list", "data": rows})


async def one_model(call: Call) -> Answer:
    name = call.request.path.removeprefix("/v1/models/")
    wanted = call.model(name)
    return json_answer(model_row(call, call.settings.catalogue.index(wanted)))


def model_row(call: Call, position: int) -> Mapping[str, Any]:
    model = call.settings.catalogue[position]
    row = {"id": call.listed_name(model), "object": "model", "created": CREATED, "owned_by": call.dialect.owned_by}
    if call.dialect.name in {"vllm", "sglang"}:
        return row | {"root": model.name, "parent": None, "max_model_len": model.context_length, "permission": []}
    return row
