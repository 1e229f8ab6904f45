"""What stands in for the usage that a backend does not report."""

from typing import Final

from nexus.domain.request import Endpoint, Requirements, TokenUsage
from nexus.wire.token_estimates import BYTES_PER_TOKEN

COUNTED: Final = frozenset({"chat", "embeddings", "rerank"})
"""Capabilities of which the tokens are a measure; sound and images are not made of them."""


def is_uncounted(usage: TokenUsage | None, requirements: Requirements) -> bool:
    """Whether a backend has not said how many tokens it took; some say zero where they did not count."""
    return usage is None or (usage.total_tokens == 0 and requirements.answers > 0)


def tokens_of(text: str) -> int:
    """Return about how many tokens *text* has."""
    return -(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN)


def estimated_usage(endpoint: Endpoint, requirements: Requirements, completion_tokens: int) -> TokenUsage | None:
    """Return the usage of an answer of about so many tokens; None where tokens say nothing.

    A chat without a word is none either: some of those endpoints only count, or take work on for later.
    """
    is_chat = endpoint.capability == "chat"
    if endpoint.capability not in COUNTED or (is_chat and not completion_tokens):
        return None
    prompt = requirements.prompt_tokens + requirements.further_prompt_tokens
    return TokenUsage(prompt, completion_tokens if is_chat else 0, is_estimated=True)
