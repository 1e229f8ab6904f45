"""Reads what an OpenAI request requires, and what it refers to."""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET

from nexus.domain.request import Endpoint, Reference, Requirements
from nexus.wire.documents import read
from nexus.wire.kept.references import FILES_MARK, MAX_REFERENCES, file_references
from nexus.wire.requests.body import Shape, answer_limit, read_body
from nexus.wire.requests.limits import NOTHING, Choices, MaxTokens, Refused, SteeringBody, TopTokens
from nexus.wire.requests.prompt_blocks import UNMARKED, Marking, prompt_marks
from nexus.wire.token_estimates import BYTES_PER_TOKEN, has_items, measure, measure_each, measure_tools


def understand(endpoint: Endpoint, body: bytes, marking: Marking | None = None) -> Requirements:
    prompt = _PROMPTS.get(endpoint.name, _NO_PROMPT)
    fields, bulk, text = read_body(_SHAPE, body, prompt.members, marking=marking)
    measured = _measure(prompt, bulk)
    marks = UNMARKED if marking is None else prompt_marks(fields, marking)
    return Requirements(
        model=fields.model or "",
        # Speech has its own member to request a stream of events.
        is_stream=bool(fields.stream) or (fields.stream_format == "sse" and endpoint.name == "openai.speech"),
        prompt_tokens=measured.tokens,
        max_tokens=_max_tokens(endpoint, fields),
        needs_vision=measured.has_image,
        # Most requests have none of these four, and this check is cheaper than the calls.
        needs_tools=bool(fields.tools or fields.functions) and (has_items(fields.tools) or has_items(fields.functions)),
        needs_json=bool(fields.response_format or fields.text)
        and (_asks_for_json(fields.response_format) or _asks_for_json(fields.text)),
        needs_embeddings=endpoint.capability == "embeddings",
        further_prompt_tokens=measured.further_tokens,
        answers=measured.prompts * int(max(fields.n or 1, fields.best_of or 1)),
        prompt_token_ids=0 if fields.truncate_prompt_tokens else measured.token_ids,
        references=_references_in(fields, text) if endpoint.name in REFERRING else (),
        is_kept=_is_kept(endpoint, fields),
        prompt_blocks=marks.blocks,
        conversation=marks.conversation,
    )


class _Body(SteeringBody, gc=False):
    fallbacks: Refused = UNSET
    """Of another proxy: further models that it may use, which would bypass policies."""
    max_tokens: MaxTokens = None
    max_completion_tokens: MaxTokens = None
    response_format: msgspec.Raw = NOTHING
    max_output_tokens: MaxTokens = None
    stop: msgspec.Raw = NOTHING
    stream_format: Any = None
    n: Choices = None
    best_of: Choices = None
    logprobs: TopTokens = None
    top_logprobs: TopTokens = None
    prompt_logprobs: TopTokens = None
    query: msgspec.Raw = NOTHING
    documents: msgspec.Raw = NOTHING
    store: msgspec.Raw = NOTHING
    previous_response_id: msgspec.Raw = NOTHING
    conversation: msgspec.Raw = NOTHING
    input_file_id: msgspec.Raw = NOTHING
    text_1: msgspec.Raw = NOTHING
    text_2: msgspec.Raw = NOTHING
    texts: msgspec.Raw = NOTHING
    inputs: msgspec.Raw = NOTHING
    content: msgspec.Raw = NOTHING
    input_prefix: msgspec.Raw = NOTHING
    input_suffix: msgspec.Raw = NOTHING
    tokens: msgspec.Raw = NOTHING
    truncate_prompt_tokens: msgspec.Raw = NOTHING
    """Of vLLM, which truncates the prompt instead of refusing it."""
    chat_template: msgspec.Raw = NOTHING
    grammar: msgspec.Raw = NOTHING
    guided_grammar: msgspec.Raw = NOTHING
    guided_regex: msgspec.Raw = NOTHING
    structured_outputs: msgspec.Raw = NOTHING


_SHAPE: Final = Shape(
    decoder=msgspec.json.Decoder(_Body),
    lists=("messages", "tools", "functions", "prompt", "input", "stop", "documents", "text_1", "text_2", "texts"),
    max_bytes={
        "chat_template": 128 * 1024,
        "grammar": 128 * 1024,
        "guided_grammar": 128 * 1024,
        "guided_regex": 128 * 1024,
        "structured_outputs": 512 * 1024,
        "response_format": 512 * 1024,
    },
    refused=frozenset({*SteeringBody.__struct_fields__, "fallbacks"}) - {"model", "stream"},
)


class _Prompt(NamedTuple):
    members: tuple[str, ...] = ()
    one_by_one: frozenset[str] = frozenset()
    """Those that may be several prompts, each answered separately."""


_PROMPTS: Final[Mapping[str, _Prompt]] = {
    "openai.chat": _Prompt(("messages", "tools", "functions")),
    "openai.completions": _Prompt(("prompt",), frozenset({"prompt"})),
    "openai.embeddings": _Prompt(("input", "messages"), frozenset({"input"})),
    "openai.responses": _Prompt(("input", "instructions", "tools")),
    "openai.rerank": _Prompt(("query", "documents"), frozenset({"documents"})),
    "openai.score": _Prompt(("text_1", "text_2", "documents"), frozenset({"text_1", "text_2", "documents"})),
    "openai.images": _Prompt(("prompt",)),
    "openai.chat_tokens": _Prompt(("messages", "tools", "functions")),
    "openai.response_tokens": _Prompt(("input", "instructions", "tools")),
    "openai.response_compact": _Prompt(("input", "instructions", "tools")),
    "openai.moderations": _Prompt(("input",), frozenset({"input"})),
    "openai.native_completion": _Prompt(("prompt",), frozenset({"prompt"})),
    "openai.infill": _Prompt(("prompt", "input_prefix", "input_suffix")),
    "openai.native_embedding": _Prompt(("content",), frozenset({"content"})),
    "openai.apply_template": _Prompt(("messages", "tools")),
    "openai.generate": _Prompt(("text",), frozenset({"text"})),
    "openai.pooling": _Prompt(("input", "messages"), frozenset({"input"})),
    "openai.classify": _Prompt(("input", "messages"), frozenset({"input"})),
    "openai.embed_v2": _Prompt(("texts", "inputs"), frozenset({"texts"})),
}
"""The members that a model reads, by endpoint. At other endpoints, the context is no limit."""

_NO_PROMPT: Final = _Prompt()
_TOOLS: Final = frozenset({"tools", "functions"})


class _Measured(NamedTuple):
    tokens: int
    """Estimated, of the longest prompt."""
    further_tokens: int
    prompts: int
    has_image: bool
    token_ids: int


def _measure(prompt: _Prompt, bulk: Mapping[str, bytes]) -> _Measured:
    size, tokens, further, prompts, has_image, token_ids = 0, 0, 0, 1, False, 0
    for name, raw in bulk.items():
        if name in prompt.one_by_one:
            each = measure_each(raw)
            tokens, further, prompts = tokens + each.longest_tokens, further + each.further_tokens, each.number
            token_ids += each.longest_ids
            continue
        if name in _TOOLS:
            size += measure_tools(raw)
            continue
        text_bytes, is_shown = measure(raw)
        size += text_bytes
        has_image = has_image or is_shown
    return _Measured(size // BYTES_PER_TOKEN + tokens, further, prompts, has_image, token_ids)


def _max_tokens(endpoint: Endpoint, fields: _Body) -> int | None:
    """Return the endpoint's limit; of two names for it the higher value, because engines differ in which they use."""
    if endpoint.name == "openai.responses":
        return answer_limit(fields.max_output_tokens)
    return answer_limit(fields.max_tokens, fields.max_completion_tokens)


def _is_kept(endpoint: Endpoint, fields: _Body) -> bool:
    """Whether the backend stores the answer: by default for a response, on request for a chat."""
    if not endpoint.makes_ids:
        return False
    if endpoint.name == "openai.chat":
        return bool(fields.store) and bytes(fields.store) == b"true"
    return not fields.store or bytes(fields.store) != b"false"


def _asks_for_json(format_: msgspec.Raw) -> bool:
    return bool(format_) and _JSON_FORMAT.search(bytes(format_)) is not None


_JSON_FORMAT: Final = re.compile(rb'"type"[ \t\n\r]*+:[ \t\n\r]*+"json_(?:object|schema)"')


REFERRING: Final = frozenset({"openai.chat", "openai.responses", "openai.response_compact", "openai.batch_create"})
"""The endpoints whose bodies may have references."""

MAX_ID: Final = 256


def _references_in(fields: _Body, body: bytes) -> tuple[Reference, ...]:
    """Return the references in *body*: its own members first, then files."""
    if fields.previous_response_id or fields.conversation or fields.input_file_id or FILES_MARK.search(body):
        return tuple(islice(_references(fields, body), MAX_REFERENCES))
    return ()


def _references(fields: _Body, body: bytes) -> Iterator[Reference]:
    for param in ("previous_response_id", "conversation", "input_file_id"):
        value: msgspec.Raw = getattr(fields, param)
        id_ = _id_in(value) if value else None
        if id_ and len(id_) <= MAX_ID:
            yield Reference(id_, param)
    yield from file_references(body)


class _Object(msgspec.Struct):
    id: str | None = None


_ID: Final = msgspec.json.Decoder(str | _Object | None)


def _id_in(value: msgspec.Raw) -> str | None:
    """Return *value* if it is an id, or the id in it; None for anything else, which the backend refuses."""
    decoded = read(_ID, bytes(value))
    return decoded.id if isinstance(decoded, _Object) else decoded
