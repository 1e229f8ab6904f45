"""Reads what an Anthropic request requires."""

import re
from itertools import islice
from typing import Final

import msgspec

from nexus.domain.request import Endpoint, Requirements
from nexus.wire.kept.references import FILES_MARK, MAX_REFERENCES, file_references
from nexus.wire.requests.body import Shape, answer_limit, read_body
from nexus.wire.requests.limits import NOTHING, MaxTokens, SteeringBody
from nexus.wire.requests.prompt_blocks import UNMARKED, Marking, prompt_marks
from nexus.wire.token_estimates import BYTES_PER_TOKEN, has_items, measure, measure_tools


def understand(endpoint: Endpoint, body: bytes, marking: Marking | None = None) -> Requirements:
    fields, bulk, text = read_body(_SHAPE, body, _PROMPT, marking=marking)
    marks = UNMARKED if marking is None else prompt_marks(fields, marking, has_cache_control=True)
    tools = bulk.pop("tools", b"")
    sizes = {name: measure(raw) for name, raw in bulk.items()}
    return Requirements(
        model=fields.model or "",
        is_stream=endpoint.streams_by_default if fields.stream is None else fields.stream,
        prompt_tokens=(sum(size for size, _ in sizes.values()) + measure_tools(tools)) // BYTES_PER_TOKEN,
        max_tokens=answer_limit(fields.max_tokens, fields.max_tokens_to_sample),
        needs_vision="messages" in sizes and sizes["messages"][1],
        needs_tools=has_items(tools),
        references=tuple(islice(file_references(text), MAX_REFERENCES)) if FILES_MARK.search(text) else (),
        prompt_blocks=marks.blocks,
        conversation=marks.conversation,
        needs_json=any(_asks_for_json(format_) for format_ in (fields.output_config, fields.output_format) if format_),
    )


_PROMPT: Final = ("messages", "system", "tools", "prompt")


class _Body(SteeringBody, gc=False):
    max_tokens: MaxTokens = None
    max_tokens_to_sample: MaxTokens = None
    """This limit belongs to text completions."""
    stop_sequences: msgspec.Raw = NOTHING
    output_config: msgspec.Raw = NOTHING
    output_format: msgspec.Raw = NOTHING


_SHAPE: Final = Shape(
    decoder=msgspec.json.Decoder(_Body),
    lists=("messages", "tools", "system", "stop_sequences"),
    max_bytes={"output_config": 512 * 1024, "output_format": 512 * 1024},
    refused=frozenset(SteeringBody.__struct_fields__) - {"model", "stream"},
)


def _asks_for_json(format_: msgspec.Raw) -> bool:
    return _JSON_FORMAT.search(bytes(format_)) is not None


_JSON_FORMAT: Final = re.compile(rb'"type"[ \t\n\r]*+:[ \t\n\r]*+"json_schema"')
