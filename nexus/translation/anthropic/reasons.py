"""Why an answer ended, in Anthropic's words."""

from collections.abc import Mapping
from typing import Final

from nexus.translation.events import Finish, Reason

_STOP_REASONS: Final[Mapping[Reason, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}

_REASONS: Final[Mapping[str, Reason]] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Any other is ``stop``: ``end_turn``, ``stop_sequence``, ``pause_turn`` of tools that the API runs itself."""


def stop_reason_of(finish: Finish) -> tuple[str, str | None]:
    """Return the ``stop_reason`` and the ``stop_sequence`` of an answer."""
    if finish.reason == "stop" and finish.stop_sequence:
        return "stop_sequence", finish.stop_sequence
    return _STOP_REASONS[finish.reason], None


def finish_of(stop_reason: str, stop_sequence: str | None) -> Finish:
    """Return the reverse."""
    return Finish(_REASONS.get(stop_reason, "stop"), stop_sequence or "")
