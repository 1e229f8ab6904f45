"""Reads the usage in Ollama's answers."""

from typing import Final

import msgspec

from nexus.domain.request import TokenUsage
from nexus.wire.documents import read
from nexus.wire.requests.limits import TokenCount

NANOSECONDS: Final = 1_000_000_000
WITHOUT_TOKENS: Final = ("load", "unload")
"""The ``done_reason`` of answers to requests that only load or unload a model."""


def usage_of(body: bytes) -> TokenUsage | None:
    """Return the usage of a whole answer or its last line; None if there is none or it is implausible."""
    answer = read(_DECODER, body)
    if answer is None:
        return None
    if answer.prompt_eval_count is None and answer.eval_count is None and answer.done_reason not in WITHOUT_TOKENS:
        return None
    return TokenUsage(answer.prompt_eval_count or 0, answer.eval_count or 0)


def load_s_of(body: bytes) -> float | None:
    """Return how long the model was loaded for a whole answer or its last line, in seconds; None if it does not say."""
    answer = read(_DECODER, body)
    if answer is None or isinstance(answer.load_duration, bool) or not isinstance(answer.load_duration, int):
        return None
    return answer.load_duration / NANOSECONDS


class _Document(msgspec.Struct):
    prompt_eval_count: TokenCount | None = None
    """Missing when the whole prompt was in the cache."""
    eval_count: TokenCount | None = None
    done_reason: object = None
    load_duration: object = None
    """Nanoseconds from the request to the model in memory; some milliseconds if it was there."""


_DECODER: Final = msgspec.json.Decoder(_Document)
