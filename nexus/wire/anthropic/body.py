"""What an Anthropic request body asks of a model."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from nexus.domain.request import Endpoint, Requirements
from nexus.wire.limits import MaxTokens, Number, RoutedBody
from nexus.wire.request_body import read_body
from nexus.wire.text_size import BYTES_PER_TOKEN, has_image_part, has_items, text_bytes

NOTHING: Final = msgspec.Raw()


def understand(endpoint: Endpoint, body: bytes) -> Requirements:
    """See :attr:`nexus.wire.protocol.WireProtocol.understand`."""
    fields = read_body(_DECODER, body, lists=_LISTS, most_bytes=_MOST_BYTES)
    messages = bytes(fields.messages)
    size = text_bytes(messages) + text_bytes(bytes(fields.system)) + text_bytes(bytes(fields.tools))
    return Requirements(
        model=fields.model,
        is_stream=endpoint.streams_by_default if fields.stream is None else fields.stream,
        prompt_tokens=size // BYTES_PER_TOKEN,
        max_tokens=int(fields.max_tokens) if fields.max_tokens is not None and fields.max_tokens > 0 else None,
        needs_vision=has_image_part(messages),
        needs_tools=has_items(fields.tools),
        needs_json=any(_asks_for_json(format_) for format_ in (fields.output_config, fields.output_format) if format_),
    )


class _Body(RoutedBody, gc=False):
    messages: msgspec.Raw = NOTHING
    max_tokens: MaxTokens = None
    system: msgspec.Raw = NOTHING
    tools: msgspec.Raw = NOTHING
    temperature: Number = None
    top_p: Number = None
    top_k: Number = None
    stop_sequences: msgspec.Raw = NOTHING
    output_config: msgspec.Raw = NOTHING
    output_format: msgspec.Raw = NOTHING


_DECODER: Final = msgspec.json.Decoder(_Body)
_LISTS: Final = ("messages", "tools", "system", "stop_sequences")
_MOST_BYTES: Final[Mapping[str, int]] = {"output_config": 512 * 1024, "output_format": 512 * 1024}
"""What engines compile before they answer."""


def _asks_for_json(format_: msgspec.Raw) -> bool:
    return _JSON_FORMAT.search(bytes(format_)) is not None


_JSON_FORMAT: Final = re.compile(rb'"type"[ \t\n\r]*+:[ \t\n\r]*+"json_schema"')
