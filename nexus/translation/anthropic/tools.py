"""Reads the tools of Anthropic's requests, and which of them the model must call."""

from collections.abc import Iterable
from typing import Final

import msgspec

from nexus.errors import RequestError
from nexus.translation.anthropic.content import NOTHING, is_given
from nexus.translation.chat import OneTool, Tool, ToolChoice
from nexus.translation.refusals import not_translatable


class ToolIn(msgspec.Struct):
    name: str | None = None
    type: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw = NOTHING
    strict: bool | None = None
    cache_control: msgspec.Raw = NOTHING
    defer_loading: bool | None = None
    input_examples: msgspec.Raw = NOTHING


class ToolChoiceIn(msgspec.Struct, gc=False):
    type: str | None = None
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


CLIENT_TOOLS: Final = (None, "custom")
"""The types of tools that have a schema, and are run by the client. Any other type is known to Anthropic's API alone:
the API runs the tool, or has its schema."""

CHOICES: Final[dict[str | None, ToolChoice]] = {"auto": "auto", "any": "required", "none": "none"}


def tools_of(tools: Iterable[ToolIn], lost: set[str]) -> tuple[Tool, ...]:
    """Return the tools that any backend can offer to its model, and add the others to *lost*."""
    found = []
    for tool in tools:
        if is_given(tool.cache_control):
            lost.add("cache_control")
        if tool.type not in CLIENT_TOOLS:
            lost.add(f"tools.{tool.type}")
            continue
        if tool.defer_loading:
            lost.add("tools.defer_loading")
        if is_given(tool.input_examples):
            lost.add("tools.input_examples")
        schema = tool.input_schema if is_given(tool.input_schema) else None
        found.append(Tool(tool.name or "", tool.description or "", schema, tool.strict))
    return tuple(found)


def choice_of(choice: ToolChoiceIn | None, tools: Iterable[Tool]) -> ToolChoice | None:
    """Return which of *tools* the model must call; None if the client did not say, or there are none to choose from.

    :raises RequestError: ``not_translatable``: the model must call a tool that only Anthropic's API knows.
    """
    if choice is None or choice.type is None:
        return None
    names = {tool.name for tool in tools}
    chosen = OneTool(choice.name or "") if choice.type == "tool" else CHOICES.get(choice.type)
    if chosen is None:
        raise RequestError("invalid_value", "'tool_choice.type': must be auto, any, tool or none", param="tool_choice")
    if (isinstance(chosen, OneTool) and chosen.name not in names) or (chosen == "required" and not names):
        raise not_translatable("tool_choice", "require a tool with an 'input_schema', which the client runs itself")
    return chosen if names else None
