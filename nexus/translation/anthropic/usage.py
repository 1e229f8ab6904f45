"""Converts counts of tokens: in Anthropic's, the input does not include what a cache took part in."""

import msgspec

from nexus.translation.events import Usage


class OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class UsageOut(msgspec.Struct, omit_defaults=True):
    """What clients of Anthropic's API read; the first two are required there."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None


def exclusive(usage: Usage, prompt_tokens: int, answer_tokens: int) -> UsageOut:
    """Return *usage* as Anthropic's clients read it.

    :param prompt_tokens: the estimate to use if the prompt was not counted.
    :param answer_tokens: the same for the answer.
    """
    written, cached = usage.cache_write_tokens or 0, usage.cached_tokens or 0
    total = prompt_tokens if usage.input_tokens is None else usage.input_tokens
    return UsageOut(
        input_tokens=max(total - written - cached, 0),
        output_tokens=answer_tokens if usage.output_tokens is None else usage.output_tokens,
        cache_creation_input_tokens=written,
        cache_read_input_tokens=cached,
        output_tokens_details=None if usage.reasoning_tokens is None else OutputDetails(usage.reasoning_tokens),
    )


class UsageIn(msgspec.Struct, gc=False):
    """What Anthropic's API reports; None: not reported."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None

    def updated(self, newer: "UsageIn") -> "UsageIn":
        """Return the counts of *newer*, and of this where it has none: the end of a stream may not repeat them."""
        return UsageIn(*(getattr(self if getattr(newer, n) is None else newer, n) for n in self.__struct_fields__))


def inclusive(usage: UsageIn) -> Usage:
    """Return *usage* with all of the prompt as input."""
    parts = (usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens)
    known = [part for part in parts if part is not None]
    details = usage.output_tokens_details
    return Usage(
        input_tokens=sum(known) if known else None,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cache_read_input_tokens,
        cache_write_tokens=usage.cache_creation_input_tokens,
        reasoning_tokens=None if details is None else details.thinking_tokens,
    )
