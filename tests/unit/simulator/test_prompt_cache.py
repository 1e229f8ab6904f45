"""A simulated server caches prompts, reads the rest at its speed, and reports what it found."""

import json
import time

import pytest

from nexus.simulator.prompt_cache import BLOCK_TOKENS, PromptCache

PROMPT = "a prompt of several words, " * 40


def chat(text, **more):
    return json.dumps({"model": "llama3", "messages": [{"role": "user", "content": text}], **more}).encode()


def test_a_prompt_that_goes_on_is_cached_up_to_where_it_was():
    cache = PromptCache(10_000)

    assert cache.read("llama3", PROMPT) == 0
    assert cache.read("llama3", PROMPT + "and more") == len(PROMPT) // 4 // BLOCK_TOKENS * BLOCK_TOKENS
    assert cache.read("llama3", "not " + PROMPT) == 0
    assert cache.read("qwen3", PROMPT) == 0


def test_the_least_recently_used_prompt_gives_way():
    cache = PromptCache(384)
    for text in ("a", "b", "a", "c"):
        cache.read("llama3", text * 800)

    assert cache.read("llama3", "a" * 800) == 192
    assert cache.read("llama3", "b" * 800) == 0


def test_a_new_process_has_an_empty_cache():
    cache = PromptCache(10_000)
    cache.read("llama3", PROMPT)

    cache.clear()

    assert cache.read("llama3", PROMPT) == 0


async def usage(wire, path, body):
    await wire.ask(path, body)
    _, answer = await wire.answer()
    return json.loads(answer)["usage"]


async def test_what_was_cached_is_reported(simulate, connect):
    wire = await connect(await simulate(kind="vllm", cache_tokens=10_000))

    first = await usage(wire, "/v1/chat/completions", chat(PROMPT))
    second = await usage(wire, "/v1/chat/completions", chat(PROMPT + "and more"))

    assert first["prompt_tokens_details"] == {"cached_tokens": 0}
    assert second["prompt_tokens_details"] == {"cached_tokens": 256}


async def test_without_a_cache_nothing_is_reported(simulate, connect):
    wire = await connect(await simulate(kind="vllm"))

    assert "prompt_tokens_details" not in await usage(wire, "/v1/chat/completions", chat(PROMPT))


@pytest.mark.parametrize(("text", "min_s"), [(PROMPT, 0.25), ("hi", 0.0)])
async def test_a_prompt_takes_its_time(simulate, connect, text, min_s):
    wire = await connect(await simulate(kind="vllm", cache_tokens=10_000, prefill_tokens_per_s=1000))
    began = time.monotonic()
    await usage(wire, "/v1/chat/completions", chat(text))
    uncached_s = time.monotonic() - began

    began = time.monotonic()
    await usage(wire, "/v1/chat/completions", chat(text))
    cached_s = time.monotonic() - began

    assert uncached_s >= min_s
    assert cached_s < 0.2


async def test_the_size_of_the_cache_is_reported(simulate, connect):
    wire = await connect(await simulate(kind="vllm", cache_tokens=160_000))
    await wire.ask("/metrics", method="GET")
    _, metrics = await wire.answer()

    assert b'num_gpu_blocks="10000"' in metrics
