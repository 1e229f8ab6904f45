"""Reads the usage in Ollama's answers."""

from typing import Final

import msgspec

from nexus.domain.request import TokenUsage
from nexus.wire.documents import read
from nexus.wire.requests.limits import TokenCount

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


class _Document(msgspec.Struct):
    prompt_eval_count: TokenCount | None = None
    """Missing when the whole prompt was in the cache."""
    eval_count: TokenCount | None = None
    done_reason: object = None


_DECODER: Final = msgspec.json.Decoder(_Document)
