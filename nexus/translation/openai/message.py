"""Reads what whole answers and chunks of streams have in common in OpenAI's chat dialect."""

from collections.abc import Mapping
from typing import Final

import msgspec

from nexus.translation.events import AnswerEvent, Failure, Finish, Reason, TextPart, ThinkingPart
from nexus.translation.openai.usage import ChatUsage
from nexus.wire.documents import is_given


class Google(msgspec.Struct, gc=False):
    thought_signature: str | None = None


class ExtraContent(msgspec.Struct, gc=False):
    google: Google | None = None


class Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class Call(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: Function | None = None
    extra_content: ExtraContent | None = None

    @property
    def signature(self) -> str:
        """Google's signature of the thoughts that led to the call; empty: none."""
        google = self.extra_content.google if self.extra_content else None
        return (google.thought_signature if google else None) or ""


class Said(msgspec.Struct, gc=False):
    """A message, or what a chunk adds to it."""

    content: str | None = None
    tool_calls: list[Call] | None = None
    reasoning_content: str | None = None
    """The name of the thoughts at llama.cpp, SGLang and DeepSeek, and formerly at vLLM."""
    reasoning: str | None = None
    """Their name at vLLM, Ollama, LM Studio and OpenRouter; some servers send both."""
    refusal: str | None = None


class Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: Said | None = None
    message: Said | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    """Of vLLM: the stop string that was found, or the number of a token."""


class Document(msgspec.Struct, gc=False):
    """A whole answer, or a chunk."""

    choices: list[Choice] | None = None
    id: str | None = None
    model: str | None = None
    usage: ChatUsage | None = None
    error: msgspec.Raw = msgspec.Raw()
    object: str | None = None

    def is_error(self) -> bool:
        return (bool(self.error) and is_given(self.error)) or self.object == "error"


REASONS: Final[Mapping[str, Reason]] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
}
"""By the reason in lower case; any other that is new counts as ``stop``."""

_FAILURES: Final = frozenset({"abort", "error", "insufficient_system_resource"})
"""The reasons of vLLM, SGLang, OpenRouter and DeepSeek for answers that they have broken off."""


def add_text(said: Said, found: list[AnswerEvent]) -> None:
    """Add the thoughts and the text of a message."""
    if thoughts := said.reasoning_content or said.reasoning:
        found.append(ThinkingPart(thoughts))
    if said.content:
        found.append(TextPart(said.content))
    if said.refusal:
        found.append(TextPart(said.refusal))


def finish_of(choice: Choice, *, has_refused: bool) -> Finish | Failure:
    """Return why the answer ended; the choice has a reason."""
    name = (choice.finish_reason or "").lower()
    if name in _FAILURES:
        return Failure(502, f"the backend broke the answer off: {name}", "bad_gateway")
    reason = REASONS.get(name, "stop")
    if has_refused and reason == "stop":
        reason = "content_filter"
    return Finish(reason, choice.stop_reason if isinstance(choice.stop_reason, str) else "")
