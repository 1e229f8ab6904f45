"""Reads the usage in Anthropic's answers."""

from typing import Final

import msgspec

from nexus.domain.request import TokenUsage
from nexus.wire.documents import read
from nexus.wire.requests.limits import TokenCount


class Usage(msgspec.Struct):
    """The usage in a message or an event of its stream; None: not reported there."""

    input_tokens: TokenCount | None = None
    """Without tokens that were written to a cache or read from one."""
    cache_creation_input_tokens: TokenCount | None = None
    cache_read_input_tokens: TokenCount | None = None
    output_tokens: TokenCount | None = None

    @property
    def prompt_tokens(self) -> int | None:
        parts = (self.input_tokens, self.cache_creation_input_tokens, self.cache_read_input_tokens)
        known = [part for part in parts if part is not None]
        return sum(known) if known else None


def usage_of(body: bytes) -> TokenUsage | None:
    """Return the usage of a whole answer; None if there is none or it is implausible."""
    usage = read_usage(body)
    return None if usage is None else TokenUsage(usage.prompt_tokens or 0, usage.output_tokens or 0)


def read_usage(content: bytes) -> Usage | None:
    """Return the usage in a whole answer or an event, as reported."""
    answer = read(_DECODER, content)
    if answer is None:
        return None
    return answer.usage if answer.message is None else answer.message.usage


class _Message(msgspec.Struct):
    usage: Usage | None = None


class _Document(msgspec.Struct):
    usage: Usage | None = None
    message: _Message | None = None
    """In the first event of a stream."""


_DECODER: Final = msgspec.json.Decoder(_Document)
