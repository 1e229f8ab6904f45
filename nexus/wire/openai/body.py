"""What an OpenAI request body asks of a model."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from nexus.domain.request import Endpoint, Requirements
from nexus.wire.limits import Choices, MaxTokens, Number, RoutedBody, TopTokens
from nexus.wire.request_body import read_body
from nexus.wire.text_size import BYTES_PER_TOKEN, has_image_part, has_items, longest_tokens, text_bytes

NOTHING: Final = msgspec.Raw()


def understand(endpoint: Endpoint, body: bytes) -> Requirements:
    """See :attr:`nexus.wire.protocol.WireProtocol.understand`."""
    fields = read_body(_DECODER, body, lists=_LISTS, most_bytes=_MOST_BYTES)
    prompt_tokens, needs_vision = _measure(endpoint, fields)
    return Requirements(
        model=fields.model,
        is_stream=endpoint.streams_by_default if fields.stream is None else fields.stream,
        prompt_tokens=prompt_tokens,
        max_tokens=_max_tokens(fields),
        needs_vision=needs_vision,
        needs_tools=has_items(fields.tools) or has_items(fields.functions),
        needs_json=_asks_for_json(fields.response_format) or _asks_for_json(fields.text),
        needs_embeddings=endpoint.capability == "embeddings",
    )


class _Body(RoutedBody, gc=False):
    messages: msgspec.Raw = NOTHING
    max_tokens: MaxTokens = None
    max_completion_tokens: MaxTokens = None
    temperature: Number = None
    tools: msgspec.Raw = NOTHING
    response_format: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    input: msgspec.Raw = NOTHING
    instructions: msgspec.Raw = NOTHING
    max_output_tokens: MaxTokens = None
    text: msgspec.Raw = NOTHING
    functions: msgspec.Raw = NOTHING
    stop: msgspec.Raw = NOTHING
    n: Choices = None
    best_of: Choices = None
    logprobs: TopTokens = None
    top_logprobs: TopTokens = None
    prompt_logprobs: TopTokens = None
    top_p: Number = None
    top_k: Number = None
    min_p: Number = None
    seed: Number = None
    presence_penalty: Number = None
    frequency_penalty: Number = None
    repetition_penalty: Number = None
    query: msgspec.Raw = NOTHING
    documents: msgspec.Raw = NOTHING
    text_1: msgspec.Raw = NOTHING
    text_2: msgspec.Raw = NOTHING
    tokens: msgspec.Raw = NOTHING
    chat_template: msgspec.Raw = NOTHING
    grammar: msgspec.Raw = NOTHING
    guided_grammar: msgspec.Raw = NOTHING
    guided_regex: msgspec.Raw = NOTHING
    structured_outputs: msgspec.Raw = NOTHING


_DECODER: Final = msgspec.json.Decoder(_Body)
_LISTS: Final = ("messages", "tools", "functions", "prompt", "input", "stop", "documents", "text_1", "text_2")
_MOST_BYTES: Final[Mapping[str, int]] = {
    "chat_template": 128 * 1024,
    "grammar": 128 * 1024,
    "guided_grammar": 128 * 1024,
    "guided_regex": 128 * 1024,
    "structured_outputs": 512 * 1024,
    "response_format": 512 * 1024,
}
"""What engines compile before they answer, some of them in time that grows much faster than the text."""


class _Prompt(NamedTuple):
    summed: tuple[str, ...] = ()
    """What is read together."""
    longest: tuple[str, ...] = ()
    """What may be several prompts, answered one by one."""


_PROMPTS: Final[Mapping[str, _Prompt]] = {
    "openai.chat": _Prompt(("messages", "tools", "functions")),
    "openai.completions": _Prompt(longest=("prompt",)),
    "openai.embeddings": _Prompt(("messages",), ("input",)),
    "openai.responses": _Prompt(("input", "instructions", "tools")),
    "openai.rerank": _Prompt(("query",), ("documents",)),
    "openai.score": _Prompt(longest=("text_1", "text_2", "documents")),
    "openai.images": _Prompt(("prompt",)),
}
"""What of a body a model reads. Elsewhere its context does not limit it."""


def _measure(endpoint: Endpoint, fields: _Body) -> tuple[int, bool]:
    """Return the estimated tokens of the prompt, and whether there is an image in it."""
    prompt = _PROMPTS.get(endpoint.name, _Prompt())
    size, has_image = 0, False
    for name in prompt.summed:
        if value := getattr(fields, name):
            raw = bytes(value)
            size += text_bytes(raw)
            has_image = has_image or (name != "tools" and has_image_part(raw))
    tokens = size // BYTES_PER_TOKEN
    for name in prompt.longest:
        if value := getattr(fields, name):
            tokens += longest_tokens(bytes(value))
    return tokens, has_image


def _max_tokens(fields: _Body) -> int | None:
    for value in (fields.max_completion_tokens, fields.max_tokens, fields.max_output_tokens):
        if value is not None and value > 0:
            return int(value)
    return None


def _asks_for_json(format_: msgspec.Raw) -> bool:
    return bool(format_) and _JSON_FORMAT.search(bytes(format_)) is not None


_JSON_FORMAT: Final = re.compile(rb'"type"[ \t\n\r]*+:[ \t\n\r]*+"json_(?:object|schema)"')
