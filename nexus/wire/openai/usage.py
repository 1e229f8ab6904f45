"""Reads the usage in OpenAI's answers."""

from typing import Final

import msgspec

from nexus.domain.request import TokenUsage
from nexus.wire.documents import LONG_BYTES, read, without_vectors
from nexus.wire.requests.limits import TokenCount


def usage_of(body: bytes) -> TokenUsage | None:
    """Return the usage of a whole answer or an event; None if there is none or it is implausible."""
    answer = read(_DECODER, without_vectors(body) if len(body) >= LONG_BYTES else body)
    if answer is None:
        return None
    usage = answer.usage if answer.response is None else answer.response.usage
    counted = _counted(usage) if usage else None
    if counted is None and answer.timings is not None:
        return _timed(answer.timings)
    return counted


class _Usage(msgspec.Struct):
    prompt_tokens: TokenCount | None = None
    completion_tokens: TokenCount | None = None
    input_tokens: TokenCount | None = None
    """The name in the Responses API, for audio and images."""
    output_tokens: TokenCount | None = None
    total_tokens: TokenCount | None = None
    """In some clouds greater than the sum of the parts, by the model's thoughts; in rerankers the only count."""


class _Timings(msgspec.Struct):
    """Sent by llama.cpp with each answer, and with the last chunk of each stream."""

    cache_n: TokenCount = 0
    """The tokens of the prompt that were cached."""
    prompt_n: TokenCount | None = None
    predicted_n: TokenCount | None = None


class _Response(msgspec.Struct):
    usage: _Usage | None = None


class _Document(msgspec.Struct):
    usage: _Usage | None = None
    response: _Response | None = None
    """In an event of the Responses API."""
    timings: _Timings | None = None


_DECODER: Final = msgspec.json.Decoder(_Document)


def _counted(usage: _Usage) -> TokenUsage | None:
    prompt = usage.input_tokens if usage.prompt_tokens is None else usage.prompt_tokens
    completion = usage.output_tokens if usage.completion_tokens is None else usage.completion_tokens
    if prompt is None and completion is None:
        return None if usage.total_tokens is None else TokenUsage(usage.total_tokens)
    prompt, completion = prompt or 0, completion or 0
    return TokenUsage(prompt, max(completion, (usage.total_tokens or 0) - prompt))


def _timed(timings: _Timings) -> TokenUsage | None:
    if timings.prompt_n is None or timings.predicted_n is None:
        return None
    return TokenUsage(timings.cache_n + timings.prompt_n, timings.predicted_n)
