"""Reads what an Ollama request requires."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from nexus.domain.request import Endpoint, Requirements
from nexus.wire.requests.body import Shape, answer_limit, read_body
from nexus.wire.requests.limits import NOTHING, MaxTokens, RoutedBody, TopTokens
from nexus.wire.requests.prompt_blocks import UNMARKED, Marking, prompt_marks
from nexus.wire.token_estimates import BYTES_PER_TOKEN, Prompts, has_items, measure, measure_each, measure_tools


def understand(endpoint: Endpoint, body: bytes, marking: Marking | None = None) -> Requirements:
    fields, bulk, text = read_body(_SHAPE, body, _BULK, marking=marking)
    answers = 0 if endpoint.capability == "chat" and _only_loads(text, bulk) else 1
    marks = prompt_marks(fields, marking) if answers and marking is not None else UNMARKED
    each = measure_each(bulk["input"]) if "input" in bulk else _NO_INPUT
    return Requirements(
        model=fields.model or "",
        is_stream=endpoint.streams_by_default if fields.stream is None else fields.stream,
        prompt_tokens=_tokens(bulk) + each.longest_tokens,
        max_tokens=_max_tokens(fields.options),
        needs_vision=has_items(fields.images) or _has_images(bulk.get("messages", b"")),
        needs_tools=has_items(fields.tools),
        needs_json=len(fields.format) > len('""') and bytes(fields.format) != b"null",
        needs_embeddings=endpoint.capability == "embeddings",
        further_prompt_tokens=each.further_tokens,
        answers=answers,
        prompt_blocks=marks.blocks,
        conversation=marks.conversation,
    )


_NO_INPUT: Final = Prompts()
_SUMMED: Final = ("messages", "prompt", "system", "suffix")
_BULK: Final = (*_SUMMED, "tools", "input", "context", "images")


class _Options(msgspec.Struct, gc=False):
    num_predict: MaxTokens = None
    num_ctx: MaxTokens = None


class _Body(RoutedBody, gc=False):
    options: _Options | None = None
    format: msgspec.Raw = NOTHING
    images: msgspec.Raw = NOTHING
    suffix: msgspec.Raw = NOTHING
    template: msgspec.Raw = NOTHING
    top_logprobs: TopTokens = None


_SHAPE: Final = Shape(
    decoder=msgspec.json.Decoder(_Body),
    lists=("messages", "tools", "images", "input"),
    max_bytes={"template": 128 * 1024, "format": 512 * 1024},
)


def _tokens(bulk: Mapping[str, bytes]) -> int:
    size = sum(measure(bulk[name])[0] for name in _SUMMED if name in bulk) + measure_tools(bulk.get("tools", b""))
    tokens = size // BYTES_PER_TOKEN
    if "context" in bulk:
        # The conversation so far, as token ids of an earlier answer.
        tokens += bulk["context"].count(b",") + 1
    return max(tokens, 0)


_ASKING: Final = ("messages", "prompt", "suffix", "images", "context")
"""Without any of these, the request only loads a model, or unloads it if ``keep_alive`` is 0."""
_EMPTY: Final = frozenset({b"", b"null", b'""', b"[]"})


def _only_loads(body: bytes, bulk: Mapping[str, bytes]) -> bool:
    if any(bulk.get(name, b"") not in _EMPTY for name in _ASKING):
        return False
    if not body.isascii() or b"\\" in body:
        return False
    # Ollama accepts `Prompt` for `prompt`, and uses the last of two.
    lower = body.lower()
    return all(lower.count(f'"{name}"'.encode()) == (name in bulk) for name in _ASKING)


def _max_tokens(options: _Options | None) -> int | None:
    return answer_limit(options.num_predict) if options else None


def _has_images(messages: bytes) -> bool:
    return b'"images"' in messages and _IMAGES.search(messages) is not None


_IMAGES: Final = re.compile(rb'"images"[ \t\n\r]*+:[ \t\n\r]*+\[[ \t\n\r]*+[^\] \t\n\r]')
