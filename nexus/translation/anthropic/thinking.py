"""Writes how much a model of Anthropic's API may think."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from nexus.translation.anthropic.abilities import Abilities
from nexus.translation.anthropic.signatures import own
from nexus.translation.chat import ChatRequest, Message, OneTool, Reasoning, ToolCall, ToolResult
from nexus.translation.chat import Thinking as ChatThinking

MIN_BUDGET: Final = 1024
"""The least that the API accepts."""

BUDGETS: Final[Mapping[str, int]] = {
    "minimal": MIN_BUDGET,
    "low": 2048,
    "medium": 8192,
    "high": 16_384,
    "xhigh": 24_576,
    "max": 31_999,
}
"""The tokens that an effort may take, for models that want a number."""


class ThinkingOut(msgspec.Struct, omit_defaults=True):
    type: str
    budget_tokens: int | None = None


class Thinking(msgspec.Struct, frozen=True):
    """What to ask for; both None: nothing."""

    thinking: ThinkingOut | None = None
    effort: str | None = None


def thinking_of(chat: ChatRequest, abilities: Abilities, max_tokens: int, lost: set[str]) -> Thinking:
    """Return how much the model may think about *chat*.

    Thinking is left out, and listed in *lost*, where the API refuses it: if the model must call a tool, if the answer
    is too short for the least budget, and where the thoughts before calls of tools are missing, which other dialects
    cannot carry.
    """
    reasoning = chat.reasoning
    if reasoning.is_on is False:
        if abilities.when_off == "never":
            lost.add("reasoning_effort")
        return Thinking(ThinkingOut("disabled") if abilities.when_off == "disabled" else None)
    if reasoning == Reasoning():
        return Thinking()
    if isinstance(chat.tool_choice, OneTool) or chat.tool_choice == "required":
        lost.add("reasoning_effort")
        return Thinking()
    if abilities.is_adaptive:
        return Thinking(ThinkingOut("adaptive"), _effort_of(reasoning, abilities))
    asked = reasoning.budget_tokens or BUDGETS.get(reasoning.effort or "medium", BUDGETS["medium"])
    # Thoughts count as part of the answer, so a part of its length is kept for what follows.
    budget = min(asked, max_tokens - max_tokens // 4 - 1)
    if budget < MIN_BUDGET or _is_within_calls(chat.messages):
        lost.add("reasoning_effort")
        return Thinking()
    return Thinking(ThinkingOut("enabled", budget))


def _effort_of(reasoning: Reasoning, abilities: Abilities) -> str | None:
    if reasoning.effort is None:
        return None
    if reasoning.effort == "minimal":
        return "low"
    return reasoning.effort if reasoning.effort in abilities.efforts else "high"


def _is_within_calls(messages: Sequence[Message]) -> bool:
    """Whether the last answer called tools without signed thoughts, and the model is to go on from their results."""
    for message in reversed(messages):
        if message.role == "assistant":
            is_signed = any(isinstance(part, ChatThinking) and own(part.signature) for part in message.parts)
            return not is_signed and any(isinstance(part, ToolCall) for part in message.parts)
        if message.role == "user" and not all(isinstance(part, ToolResult) for part in message.parts):
            return False
    return False
