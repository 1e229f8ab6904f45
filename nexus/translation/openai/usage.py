"""Reads and writes the usage of answers in OpenAI's chat dialect."""

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from nexus.translation.events import Usage

Count = Annotated[int, msgspec.Meta(ge=0)]


class PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None


class CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Count | None = None


class ChatUsage(msgspec.Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: Count | None = None
    """DeepSeek's name of the cached tokens."""


def usage_in(reported: ChatUsage) -> Usage:
    """Return what is *reported*.

    Google's total is greater than the sum of its parts, by the model's thoughts.
    """
    prompt, completion, total = reported.prompt_tokens, reported.completion_tokens, reported.total_tokens
    details = reported.prompt_tokens_details
    thoughts = reported.completion_tokens_details.reasoning_tokens if reported.completion_tokens_details else None
    if prompt is not None and completion is not None and total is not None and total > prompt + completion:
        thoughts = total - prompt - completion if thoughts is None else thoughts
        completion = total - prompt
    cached = details.cached_tokens if details else None
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cached_tokens=reported.prompt_cache_hit_tokens if cached is None else cached,
        cache_write_tokens=details.cache_write_tokens if details else None,
        reasoning_tokens=thoughts,
    )


class _WrittenPromptDetails(msgspec.Struct, gc=False):
    cached_tokens: int


class _WrittenCompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int


class WrittenUsage(msgspec.Struct, gc=False):
    """The usage as clients read it."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _WrittenPromptDetails | UnsetType = UNSET
    completion_tokens_details: _WrittenCompletionDetails | UnsetType = UNSET


def usage_out(usage: Usage | None) -> WrittenUsage | None:
    """Return *usage* as clients read it; None if the backend has reported nothing."""
    if usage is None or (usage.input_tokens is None and usage.output_tokens is None):
        return None
    prompt, completion = usage.input_tokens or 0, usage.output_tokens or 0
    cached, thoughts = usage.cached_tokens, usage.reasoning_tokens
    return WrittenUsage(
        prompt,
        completion,
        prompt + completion,
        UNSET if cached is None else _WrittenPromptDetails(cached),
        UNSET if thoughts is None else _WrittenCompletionDetails(thoughts),
    )
