"""What an Ollama request body asks of a model."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from nexus.domain.request import Endpoint, Requirements
from nexus.wire.limits import MaxTokens, Number, RoutedBody, TopTokens
from nexus.wire.request_body import read_body
from nexus.wire.text_size import BYTES_PER_TOKEN, has_items, longest_tokens, text_bytes

NOTHING: Final = msgspec.Raw()


def understand(endpoint: Endpoint, body: bytes) -> Requirements:
    """See :attr:`nexus.wire.protocol.WireProtocol.understand`."""
    fields = read_body(_DECODER, body, lists=_LISTS, most_bytes=_MOST_BYTES)
    messages = bytes(fields.messages)
    is_embedding = endpoint.capability == "embeddings"
    return Requirements(
        model=fields.model,
        is_stream=endpoint.streams_by_default if fields.stream is None else fields.stream,
        prompt_tokens=_prompt_tokens(fields, messages),
        max_tokens=_max_tokens(fields.options),
        needs_vision=has_items(fields.images) or _has_images(messages),
        needs_tools=has_items(fields.tools),
        needs_json=len(fields.format) > len('""') and bytes(fields.format) != b"null",
        needs_embeddings=is_embedding,
    )


class _Options(msgspec.Struct, gc=False):
    num_predict: MaxTokens = None
    num_ctx: MaxTokens = None
    temperature: Number = None
    seed: Number = None


class _Body(RoutedBody, gc=False):
    messages: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    options: _Options | None = None
    tools: msgspec.Raw = NOTHING
    format: msgspec.Raw = NOTHING
    images: msgspec.Raw = NOTHING
    input: msgspec.Raw = NOTHING
    system: msgspec.Raw = NOTHING
    suffix: msgspec.Raw = NOTHING
    context: msgspec.Raw = NOTHING
    template: msgspec.Raw = NOTHING
    top_logprobs: TopTokens = None


_DECODER: Final = msgspec.json.Decoder(_Body)
_LISTS: Final = ("messages", "tools", "images", "input")
_MOST_BYTES: Final[Mapping[str, int]] = {"template": 128 * 1024, "format": 512 * 1024}
"""What Ollama compiles before it answers."""


def _prompt_tokens(fields: _Body, messages: bytes) -> int:
    size = text_bytes(messages)
    for value in (fields.tools, fields.prompt, fields.system, fields.suffix):
        if value:
            size += text_bytes(bytes(value))
    tokens = size // BYTES_PER_TOKEN
    if fields.input:
        tokens += longest_tokens(bytes(fields.input))
    if fields.context:
        # The conversation so far, as the tokens that an earlier answer gave.
        tokens += bytes(fields.context).count(b",") + 1
    return tokens


def _max_tokens(options: _Options | None) -> int | None:
    limit = options.num_predict if options else None
    return int(limit) if limit is not None and limit > 0 else None


def _has_images(messages: bytes) -> bool:
    return b'"images"' in messages and _IMAGES.search(messages) is not None


_IMAGES: Final = re.compile(rb'"images"[ \t\n\r]*+:[ \t\n\r]*+\[[ \t\n\r]*+[^\] \t\n\r]')
