"""Gives tools names that a provider takes, and restores the client's in the answer."""

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

from msgspec.structs import replace

from nexus.translation.chat import ChatRequest, Message, OneTool, Part, ToolCall, ToolResult
from nexus.translation.events import AnswerEvent, ToolBegin

_HASH_CHARACTERS: Final = 8
_OTHERS: Final = re.compile(r"[^A-Za-z0-9_-]")


class Renaming:
    """The names of one request: coding agents build longer ones than OpenAI and Google take.

    A name is always replaced by the same one, so that it can stay in the history.
    """

    __slots__ = ("_given", "_longest")

    def __init__(self, chat: ChatRequest, longest: int) -> None:
        self._longest = longest
        names = {tool.name for tool in chat.tools}
        names.update(part.name for message in chat.messages for part in message.parts if isinstance(part, ToolCall))
        self._given: Mapping[str, str] = {made: name for name in names if (made := self._made(name)) != name}
        """The client's names, by those that the provider gets."""

    def __bool__(self) -> bool:
        return bool(self._given)

    def renamed(self, chat: ChatRequest) -> ChatRequest:
        """Return *chat* with names that the provider takes."""
        choice = chat.tool_choice
        return replace(
            chat,
            tools=tuple(replace(tool, name=self._made(tool.name)) for tool in chat.tools),
            tool_choice=OneTool(self._made(choice.name)) if isinstance(choice, OneTool) else choice,
            messages=tuple(map(self._message, chat.messages)),
        )

    def add(self, events: Iterable[AnswerEvent]) -> list[AnswerEvent]:
        """Return *events* with the client's names."""
        given = self._given
        return [
            replace(event, name=given.get(event.name, event.name)) if type(event) is ToolBegin else event
            for event in events
        ]

    def _message(self, message: Message) -> Message:
        return replace(message, parts=tuple(map(self._part, message.parts)))

    def _part(self, part: Part) -> Part:
        return replace(part, name=self._made(part.name)) if isinstance(part, (ToolCall, ToolResult)) else part

    def _made(self, name: str) -> str:
        if len(name) <= self._longest and _OTHERS.search(name) is None:
            return name
        beginning = _OTHERS.sub("_", name)[: self._longest - _HASH_CHARACTERS - 1]
        return f"{beginning}_{sha256(name.encode()).hexdigest()[:_HASH_CHARACTERS]}"
